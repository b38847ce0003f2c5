//! The whole loop in one command: broker, scaler, sender and workers under a local autoscaler.
