//! The demo as people run it: the built program, real processes, small numbers and short intervals, a deadline on
//! everything. One file for each promise.
#![cfg(target_os = "linux")]

mod bench;
mod broken_off;
mod child_dies;
mod flags;
mod other_namespace;
mod swapped;
mod whole_loop;
