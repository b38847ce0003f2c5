//! A connection under faults: it stands still, or ends by a reset, while or when a fault says so.
//!
//! What speaks on the connection is not asked; it is simply not run while the connection stands still, and dropped when
//! it is reset.

use tokio_util::sync::CancellationToken;

use super::{Faults, Plane, Stall};
use crate::socket::Socket;

/// Runs what serves a connection until it ends. `cut` resets the connection from within; at `stop`, a connection that
/// stands still is run again, to end itself.
pub(crate) async fn conduct(
    serving: impl Future<Output = ()>,
    plane: Plane,
    socket: &Socket,
    cut: &CancellationToken,
    faults: &Faults,
    stop: &CancellationToken,
) {
    let mut changes = faults.shared.changes.subscribe();
    let drops = |drops: &super::Drops| match plane {
        Plane::Administration => drops.administration,
        Plane::Amqp => drops.amqp,
    };
    let before = drops(&changes.borrow());
    let mut serving = std::pin::pin!(serving);
    loop {
        if cut.is_cancelled() || drops(&changes.borrow_and_update()) > before {
            return socket.reset_at_end();
        }
        // Requests over HTTP stand still one by one, so that the control endpoint keeps answering.
        let standstill = if plane == Plane::Amqp && !stop.is_cancelled() { faults.standstill(plane) } else { None };
        tokio::select! {
            // A fault that is there comes before anything that is done on the connection.
            biased;
            () = cut.cancelled() => {}
            // Its sender lives as long as the broker.
            _ = changes.changed() => {}
            () = serving.as_mut(), if standstill.is_none() => return,
            () = Stall::lifted(standstill.as_ref()) => {}
            () = stop.cancelled(), if standstill.is_some() => {}
        }
    }
}

/// Returns once bytes that have been read may be looked at: waits while a fault for all connections on this side is there.
///
/// [`conduct`] hears of a fault between two polls of what it runs. Bytes that were sent after the fault was added can be read
/// in a poll that had begun before, and must stand still, too.
pub(crate) async fn let_pass(plane: Plane, faults: &Faults, stop: &CancellationToken) {
    while let Some(stall) = faults.standstill(plane) {
        tokio::select! {
            () = Stall::lifted(Some(&stall)) => {}
            () = stop.cancelled() => return,
        }
    }
}
