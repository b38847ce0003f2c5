//! One suite for every adapter behind the client port, against the real broker in this process.
//!
//! The tests themselves are in `suite/`; here each gets its name once, and each adapter its run of all of them. An adapter
//! that cannot meet a test says so by name in its list and in its decision record.

#[path = "adapter/scene.rs"]
mod scene;
#[path = "adapter/suite.rs"]
mod suite;

/// Makes one test of each name, for one adapter.
macro_rules! run {
    ($module:ident, $adapter:expr, [$($group:ident::$name:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::scene::within_deadline(crate::suite::$group::$name($adapter)).await;
                }
            )*
        }
    };
}

run!(
    ours,
    servicebus::Adapter::Ours,
    [
        sending::a_single_message_arrives_whole,
        sending::a_batch_up_to_the_limit_is_accepted,
        sending::a_message_over_the_limit_is_refused_and_the_client_lives_on,
        sending::nothing_to_send_is_sent_at_once,
        sending::a_scheduled_message_comes_at_its_time,
        receiving::receiving_returns_at_the_first_message,
        receiving::receiving_returns_as_soon_as_a_message_is_sent,
        receiving::receiving_returns_empty_when_the_wait_is_over,
        receiving::receiving_never_gives_more_than_asked_for,
        receiving::callers_side_by_side_share_the_messages,
        receiving::a_dropped_receive_loses_nothing,
        receiving::what_was_on_the_way_to_a_dropped_receive_goes_to_the_next,
        receiving::peeking_locks_nothing,
        settling::completing_removes_a_message,
        settling::abandoning_raises_the_delivery_count,
        settling::releasing_does_not_raise_the_delivery_count,
        settling::dead_lettering_moves_a_message,
        settling::a_lost_lock_is_reported,
        settling::completing_twice_is_reported,
        settling::renewing_extends_a_lock,
        settling::renewing_a_lost_lock_is_reported,
        settling::two_hundred_settlements_side_by_side,
        settling::another_client_settles_by_lock_token,
        failing::a_cut_connection_recovers_within_two_seconds,
        failing::nothing_is_lost_when_the_connection_is_cut_again_and_again,
        failing::a_stalled_network_ends_in_a_deadline,
        failing::a_broker_that_comes_back_is_found_again,
        failing::a_link_that_the_broker_closed_is_made_again,
        failing::an_unknown_queue_is_not_found,
        failing::a_wrong_key_is_unauthorized,
        failing::an_unreachable_broker_is_an_error,
        closing::closing_gives_back_what_was_not_handed_out,
        closing::closing_twice_and_calls_after_closing_end_at_once,
        closing::closing_ends_a_wait,
        closing::a_client_dropped_without_closing_gives_back,
        topics::every_subscription_gets_what_is_sent_to_the_topic,
        topics::a_subscription_is_settled_renewed_and_peeked_like_a_queue,
        topics::an_unknown_topic_or_subscription_is_not_found,
        topics::a_topic_gives_nothing_and_a_subscription_takes_nothing,
    ]
);

// All but what the crate behind this adapter cannot do (docs/adr/0003-azservicebus-adapter.md says it, too):
//
// | not met | because |
// |---|---|
// | a_batch_up_to_the_limit_is_accepted | its batches are larger than ours, so the limit it gives is below the link's |
// | releasing_does_not_raise_the_delivery_count | it cannot release, so the adapter abandons |
// | another_client_settles_by_lock_token | it settles only what its own link has received |
// | a_cut_connection_recovers_within_two_seconds | recovery is quick enough, but locks do not outlive their connection |
// | closing_gives_back_what_was_not_handed_out | gives back by abandoning, and takes one message at a time where the |
// | a_client_dropped_without_closing_gives_back | tests wait for five at once; `azservicebus.rs` tests the giving back |
#[cfg(feature = "azservicebus")]
run!(
    azservicebus,
    servicebus::Adapter::Azservicebus,
    [
        sending::a_single_message_arrives_whole,
        sending::a_message_over_the_limit_is_refused_and_the_client_lives_on,
        sending::nothing_to_send_is_sent_at_once,
        sending::a_scheduled_message_comes_at_its_time,
        receiving::receiving_returns_at_the_first_message,
        receiving::receiving_returns_as_soon_as_a_message_is_sent,
        receiving::receiving_returns_empty_when_the_wait_is_over,
        receiving::receiving_never_gives_more_than_asked_for,
        receiving::callers_side_by_side_share_the_messages,
        receiving::a_dropped_receive_loses_nothing,
        receiving::what_was_on_the_way_to_a_dropped_receive_goes_to_the_next,
        receiving::peeking_locks_nothing,
        settling::completing_removes_a_message,
        settling::abandoning_raises_the_delivery_count,
        settling::dead_lettering_moves_a_message,
        settling::a_lost_lock_is_reported,
        settling::completing_twice_is_reported,
        settling::renewing_extends_a_lock,
        settling::renewing_a_lost_lock_is_reported,
        settling::two_hundred_settlements_side_by_side,
        failing::nothing_is_lost_when_the_connection_is_cut_again_and_again,
        failing::a_stalled_network_ends_in_a_deadline,
        failing::a_broker_that_comes_back_is_found_again,
        failing::a_link_that_the_broker_closed_is_made_again,
        failing::an_unknown_queue_is_not_found,
        failing::a_wrong_key_is_unauthorized,
        failing::an_unreachable_broker_is_an_error,
        closing::closing_twice_and_calls_after_closing_end_at_once,
        closing::closing_ends_a_wait,
        topics::every_subscription_gets_what_is_sent_to_the_topic,
        topics::a_subscription_is_settled_renewed_and_peeked_like_a_queue,
        topics::an_unknown_topic_or_subscription_is_not_found,
        topics::a_topic_gives_nothing_and_a_subscription_takes_nothing,
    ]
);
