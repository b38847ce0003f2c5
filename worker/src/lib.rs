//! The receiver that the scaler scales: receive, handle, settle.
