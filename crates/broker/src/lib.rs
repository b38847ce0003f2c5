//! A small local Service Bus: AMQP 1.0 and the HTTP administration API on one port.

pub mod state;
