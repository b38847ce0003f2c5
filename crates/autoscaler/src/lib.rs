//! KEDA's loop and the HPA's arithmetic in simulated time.
