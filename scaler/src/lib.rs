//! The gRPC external scaler.
