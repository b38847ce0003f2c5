//! A sans-I/O AMQP 1.0 engine: codec, connection, session and link state.
