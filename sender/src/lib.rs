//! The Job that makes load: batch, confirm, retry.
