#!/usr/bin/env python3
"""Microsoft's own Python SDK, unmodified, against our broker over TCP.

Sends, receives, settles in every way, renews, peeks, and reads the counts with the administration client; for queues,
and for topics with their subscriptions. Each check has a broker of its own, and since they mostly wait, several run at a
time. Usage: python_sdk.py --broker target/debug/broker
"""

import argparse
import contextlib
import datetime
import functools
import uuid

import azure.servicebus
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
)
from azure.servicebus.management import (
    EntityStatus,
    ServiceBusAdministrationClient,
    SqlRuleFilter,
    TrueRuleFilter,
)

from programs import Failed, await_state, expect, run_checks, run_program, started

MESSAGES = 100
CHECKS_AT_ONCE = 6
# How long a receive waits for a first message that must come, and for one that must not.
PATIENT, BRIEF = 10, 1
# A topic and a subscription that the broker has from the start.
FLAGGED = ("flagged", "s")

CHECKS = []


def check(queue):
    """Registers a check and the `--queue` it needs."""

    def register(function):
        CHECKS.append((function, queue))
        return function

    return register


class Namespace:
    """The broker, as the SDK sees it."""

    def __init__(self, ready):
        self.connection_string = ready["connectionString"]
        self.address = ready["listen"][0]

    def client(self, connection_string=None):
        return ServiceBusClient.from_connection_string(connection_string or self.connection_string, retry_total=0)

    def administration(self, connection_string=None):
        client = ServiceBusAdministrationClient.from_connection_string(
            connection_string or self.connection_string, retry_total=0
        )
        # The SDK always says https here; Microsoft's own emulator samples reach plain HTTP in this way.
        client._impl._client._base_url = f"http://{self.address}"
        return client

    def counts(self, queue):
        """(active, dead-lettered, scheduled) as the administration API says."""
        with self.administration() as administration:
            properties = administration.get_queue_runtime_properties(queue)
        return (
            properties.active_message_count,
            properties.dead_letter_message_count,
            properties.scheduled_message_count,
        )

    def await_counts(self, queue, wanted, what="counts at the end"):
        await_state(lambda: self.counts(queue), wanted, what)

    def subscription_counts(self, topic, subscription):
        """(active, dead-lettered, waiting to be forwarded, not to be forwarded) as the administration API says."""
        with self.administration() as administration:
            properties = administration.get_subscription_runtime_properties(topic, subscription)
        return (
            properties.active_message_count,
            properties.dead_letter_message_count,
            properties.transfer_message_count,
            properties.transfer_dead_letter_message_count,
        )

    def topic_counts(self, topic):
        """(subscriptions, scheduled) as the administration API says."""
        with self.administration() as administration:
            properties = administration.get_topic_runtime_properties(topic)
        return properties.subscription_count, properties.scheduled_message_count

    def wrong_key(self):
        return self.connection_string.replace("SharedAccessKey=", "SharedAccessKey=x", 1)


def after(**passed):
    """The time when so much will have passed from now."""
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**passed)


def body(message):
    return b"".join(message.body)


def send(client, queue, *bodies):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages([ServiceBusMessage(body, message_id=str(uuid.uuid4())) for body in bodies])


@contextlib.contextmanager
def receiver_of(namespace, queue, *bodies, sub_queue=None):
    """A receiver with a connection of its own, after sending the bodies, if there are any."""
    with namespace.client() as client:
        if bodies:
            send(client, queue, *bodies)
        with client.get_queue_receiver(queue, sub_queue=sub_queue) as receiver:
            yield receiver


def receive_and_complete(client, queue, count):
    with client.get_queue_receiver(queue) as receiver:
        return complete_all(receiver, count)


def complete_all(receiver, count):
    """Receives until `count` have come, each completed; then there must be no more."""
    got = []
    while len(got) < count:
        messages = receiver.receive_messages(max_message_count=50, max_wait_time=PATIENT)
        if not messages:
            raise Failed(f"{len(got)} of {count} messages came, then none for {PATIENT} s")
        for message in messages:
            got.append(message)
            receiver.complete_message(message)
    expect(receiver.receive_messages(max_wait_time=BRIEF), [], "messages beyond those sent")
    return got


def one(receiver):
    messages = receiver.receive_messages(max_message_count=1, max_wait_time=PATIENT)
    expect(len(messages), 1, "messages received")
    return messages[0]


@check("single")
def sends_100_one_by_one_receives_and_completes_them(namespace, queue):
    with namespace.client() as client:
        with client.get_queue_sender(queue) as sender:
            for index in range(MESSAGES):
                sender.send_messages(ServiceBusMessage(f"single {index}", message_id=f"single-{index}"))
        expect(namespace.counts(queue), (MESSAGES, 0, 0), "counts after sending")
        got = receive_and_complete(client, queue, MESSAGES)
    expect([body(message).decode() for message in got], [f"single {index}" for index in range(MESSAGES)], "bodies in order")
    expect({message.message_id for message in got}, {f"single-{index}" for index in range(MESSAGES)}, "message ids")
    expect({message.delivery_count for message in got}, {0}, "delivery counts")
    numbers = [message.sequence_number for message in got]
    expect(numbers, sorted(set(numbers)), "sequence numbers, increasing")
    namespace.await_counts(queue, (0, 0, 0), "counts after completing")


@check("batch")
def sends_100_as_batches_receives_and_completes_them(namespace, queue):
    with namespace.client() as client:
        with client.get_queue_sender(queue) as sender:
            batch = sender.create_message_batch()
            for index in range(MESSAGES):
                batch.add_message(ServiceBusMessage(f"batch {index}", message_id=f"batch-{index}"))
            sender.send_messages(batch)
        expect(namespace.counts(queue), (MESSAGES, 0, 0), "counts after sending")
        got = receive_and_complete(client, queue, MESSAGES)
    expect([body(message).decode() for message in got], [f"batch {index}" for index in range(MESSAGES)], "bodies in order")
    namespace.await_counts(queue, (0, 0, 0), "counts after completing")


@check("content")
def a_message_comes_back_as_it_was_sent(namespace, queue):
    payload = bytes(range(256)) * 400
    sent = ServiceBusMessage(
        payload,
        message_id="content-1",
        content_type="application/octet-stream",
        subject="subject",
        correlation_id="correlation",
        reply_to="answers",
        to="somebody",
        application_properties={"text": "täxt", "number": 7, "ratio": 0.5, "flag": True},
    )
    with namespace.client() as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(sent)
        (got,) = receive_and_complete(client, queue, 1)
    expect(body(got) == payload, True, "100 KB body, byte for byte")
    for field in ("message_id", "content_type", "subject", "correlation_id", "reply_to", "to"):
        expect(getattr(got, field), getattr(sent, field), field)
    properties = {
        (key.decode() if isinstance(key, bytes) else key): (value.decode() if isinstance(value, bytes) else value)
        for key, value in got.application_properties.items()
    }
    expect(properties, {"text": "täxt", "number": 7, "ratio": 0.5, "flag": True}, "application properties")
    age = abs((after() - got.enqueued_time_utc).total_seconds())
    expect(age < 60, True, f"enqueued {age} s ago, less than a minute")


@check("limit")
def the_link_says_how_large_a_batch_may_be(namespace, queue):
    with namespace.client() as client, client.get_queue_sender(queue) as sender:
        batch = sender.create_message_batch()
        try:
            for _ in range(100):
                batch.add_message(ServiceBusMessage(b"x" * 100_000))
        except MessageSizeExceededError:
            pass
        else:
            raise Failed("ten megabytes fit into one batch")
        expect(len(batch) > 0, True, "messages that fit into a batch")
        sender.send_messages(batch)
        namespace.await_counts(queue, (len(batch), 0, 0), "counts after sending")


@check("abandon")
def abandoning_raises_the_delivery_count(namespace, queue):
    with receiver_of(namespace, queue, "again") as receiver:
        for deliveries in range(3):
            message = one(receiver)
            expect(message.delivery_count, deliveries, "delivery count")
            receiver.abandon_message(message)
        receiver.complete_message(one(receiver))
    namespace.await_counts(queue, (0, 0, 0))


@check("dead-letter")
def a_dead_lettered_message_says_why(namespace, queue):
    with receiver_of(namespace, queue, "poison") as receiver:
        receiver.dead_letter_message(one(receiver), reason="BadBody", error_description="it is no JSON")
    namespace.await_counts(queue, (0, 1, 0), "counts after dead-lettering")
    with receiver_of(namespace, queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        message = one(receiver)
        expect(body(message), b"poison", "body")
        expect(message.dead_letter_reason, "BadBody", "reason")
        expect(message.dead_letter_error_description, "it is no JSON", "description")
        receiver.complete_message(message)
    namespace.await_counts(queue, (0, 0, 0))


@check("deliveries,max-delivery-count=2")
def too_many_deliveries_end_in_the_dead_letter_queue(namespace, queue):
    with receiver_of(namespace, queue, "unlucky") as receiver:
        for _ in range(2):
            receiver.abandon_message(one(receiver))
        expect(receiver.receive_messages(max_wait_time=BRIEF), [], "a third delivery")
    with receiver_of(namespace, queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        message = one(receiver)
        expect(message.dead_letter_reason, "MaxDeliveryCountExceeded", "reason")
        receiver.complete_message(message)


@check("renew,lock-duration=5s")
def a_renewed_lock_outlives_the_first_one(namespace, queue):
    with receiver_of(namespace, queue, "slow") as receiver:
        message = one(receiver)
        first = message.locked_until_utc
        while after() < first + datetime.timedelta(seconds=0.5):
            renewed = receiver.renew_message_lock(message)
            expect(renewed >= first, True, f"{renewed} is not before {first}")
            # Nothing comes while the lock holds; that wait is what lets the first lock's time pass.
            expect(receiver.receive_messages(max_wait_time=0.5), [], "messages while the lock holds")
        expect(message.locked_until_utc > first, True, "the lock runs out later than at first")
        receiver.complete_message(message)
    namespace.await_counts(queue, (0, 0, 0))


@check("expiry,lock-duration=1s")
def a_lock_that_runs_out_is_lost_and_the_message_comes_again(namespace, queue):
    with receiver_of(namespace, queue, "forgotten") as receiver:
        first = one(receiver)
        # The next lock must not run out as well before it is used.
        with namespace.administration() as administration:
            properties = administration.get_queue(queue)
            properties.lock_duration = datetime.timedelta(minutes=1)
            administration.update_queue(properties)
        second = one(receiver)
        expect(second.message_id, first.message_id, "the message that comes again")
        expect(second.delivery_count, 1, "delivery count")
        # The SDK would refuse by its own clock; told that the lock still holds, it asks the broker.
        first._expiry = second.locked_until_utc + datetime.timedelta(hours=1)
        try:
            receiver.complete_message(first)
        except MessageLockLostError:
            pass
        else:
            raise Failed("the broker let a message be completed under a lost lock")
        receiver.complete_message(second)
    namespace.await_counts(queue, (0, 0, 0))


@check("peek")
def peeking_locks_nothing(namespace, queue):
    with namespace.client() as client:
        send(client, queue, *[f"peek {index}" for index in range(5)])
        with client.get_queue_receiver(queue) as receiver:
            peeked = receiver.peek_messages(max_message_count=10)
            expect([body(message) for message in peeked], [f"peek {index}".encode() for index in range(5)], "peeked")
            later = receiver.peek_messages(max_message_count=10, sequence_number=peeked[3].sequence_number)
            expect([body(message) for message in later], [b"peek 3", b"peek 4"], "peeked from the fourth on")
        got = receive_and_complete(client, queue, 5)
        expect({message.delivery_count for message in got}, {0}, "delivery counts after peeking")
        with client.get_queue_receiver(queue) as receiver:
            expect(receiver.peek_messages(max_message_count=10), [], "peeked from an empty queue")


@check("scheduled")
def a_scheduled_message_is_counted_apart_and_waits(namespace, queue):
    with namespace.client() as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage("later", message_id="later", scheduled_enqueue_time_utc=after(hours=1)))
            expect(namespace.counts(queue), (0, 0, 1), "counts before it is due")
            due = after(seconds=2)
            sender.send_messages(ServiceBusMessage("soon", message_id="soon", scheduled_enqueue_time_utc=due))
        with client.get_queue_receiver(queue) as receiver:
            message = one(receiver)
            expect(body(message), b"soon", "the one that is due")
            expect(after() >= due, True, "it did not come early")
            receiver.complete_message(message)
    namespace.await_counts(queue, (0, 0, 1))


@check("access")
def a_wrong_key_and_a_missing_queue_are_told_apart(namespace, queue):
    for connection_string, name, wanted in [
        (namespace.wrong_key(), queue, ServiceBusAuthenticationError),
        (namespace.connection_string, "nowhere", MessagingEntityNotFoundError),
    ]:
        with namespace.client(connection_string) as client:
            try:
                send(client, name, "refused")
            except wanted:
                continue
            raise Failed(f"sending to {name} was not refused with {wanted.__name__}")
    expect(namespace.counts(queue), (0, 0, 0), "counts at the end")


@check("administration,lock-duration=17s,max-delivery-count=3")
def the_administration_client_reads_and_writes_queues(namespace, queue):
    with namespace.administration() as administration:
        description = administration.get_queue(queue)
        expect(description.name, queue, "name")
        expect(description.lock_duration, datetime.timedelta(seconds=17), "lock duration")
        expect(description.max_delivery_count, 3, "max delivery count")
        expect(str(getattr(description.status, "value", description.status)), "Active", "status")

        created = administration.create_queue("created", max_delivery_count=4)
        expect(created.max_delivery_count, 4, "max delivery count of the new queue")
        try:
            administration.create_queue("created")
        except ResourceExistsError:
            pass
        else:
            raise Failed("a queue was created twice")
        names = {entry.name for entry in administration.list_queues()}
        expect({queue, "created"} <= names, True, f"{names} holds both queues")
        with namespace.client() as client:
            send(client, "created", "one", "two", "three")
        listed = {entry.name: entry.active_message_count for entry in administration.list_queues_runtime_properties()}
        expect(listed["created"], 3, "active messages of the new queue, in the listing")
        administration.delete_queue("created")
        try:
            administration.get_queue("created")
        except ResourceNotFoundError:
            pass
        else:
            raise Failed("a deleted queue is still there")
    with namespace.administration(namespace.wrong_key()) as administration:
        try:
            administration.get_queue(queue)
        except ClientAuthenticationError:
            return
        raise Failed("the administration API took a wrong key")


def publish(client, topic, *bodies):
    with client.get_topic_sender(topic) as sender:
        sender.send_messages([ServiceBusMessage(body, message_id=str(uuid.uuid4())) for body in bodies])


def refused(wanted, what, function, *arguments, **keywords):
    """Calls the function, which must fail with `wanted`; returns the error."""
    try:
        function(*arguments, **keywords)
    except wanted as error:
        return error
    raise Failed(f"{what} was not refused with {wanted.__name__}")


@check("topic")
def a_topic_gives_every_subscription_its_copies(namespace, topic):
    topic = f"area/{topic}"
    expect(namespace.topic_counts(FLAGGED[0]), (1, 0), "the topic that the command line names")
    expect(namespace.subscription_counts(*FLAGGED), (0, 0, 0, 0), "its subscription")
    with namespace.administration() as administration, namespace.client() as client:
        administration.create_topic(topic, user_metadata="events")
        for name in ("audit", "bill"):
            administration.create_subscription(topic, name, max_delivery_count=4)
        refused(ResourceExistsError, "a second topic of that name", administration.create_topic, topic)
        refused(ResourceExistsError, "a queue of that name", administration.create_queue, topic)
        refused(ResourceExistsError, "a second subscription", administration.create_subscription, topic, "Audit")
        refused(ResourceNotFoundError, "no topic", administration.create_subscription, "nowhere", "audit")
        expect(administration.get_topic(topic).user_metadata, "events", "user metadata")
        expect(administration.get_subscription(topic, "audit").max_delivery_count, 4, "max delivery count")

        publish(client, topic, *[f"event {index}" for index in range(MESSAGES)])
        for name in ("audit", "bill"):
            expect(namespace.subscription_counts(topic, name), (MESSAGES, 0, 0, 0), f"counts of {name}")
        listed = {
            entry.name: (entry.active_message_count, entry.total_message_count)
            for entry in administration.list_subscriptions_runtime_properties(topic)
        }
        expect(listed, {name: (MESSAGES, MESSAGES) for name in ("audit", "bill")}, "counts in the listing")
        with client.get_subscription_receiver(topic, "audit") as receiver:
            got = complete_all(receiver, MESSAGES)
        expect([body(message).decode() for message in got], [f"event {index}" for index in range(MESSAGES)], "bodies")
        expect(namespace.subscription_counts(topic, "audit"), (0, 0, 0, 0), "counts of audit when it is done")
        expect(namespace.subscription_counts(topic, "bill"), (MESSAGES, 0, 0, 0), "bill keeps its copies")

        with client.get_subscription_receiver(topic, "bill") as receiver:
            message = one(receiver)
            receiver.renew_message_lock(message)
            receiver.dead_letter_message(message, reason="Unpaid")
            expect(len(receiver.peek_messages(max_message_count=10)), 10, "messages peeked")
        with client.get_subscription_receiver(topic, "bill", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            expect(one(receiver).dead_letter_reason, "Unpaid", "reason")
        expect(namespace.subscription_counts(topic, "bill"), (MESSAGES - 1, 1, 0, 0), "counts of bill")

        administration.delete_subscription(topic, "audit")
        refused(ResourceNotFoundError, "a deleted subscription", administration.get_subscription, topic, "audit")
        administration.delete_topic(topic)
        refused(ResourceNotFoundError, "a deleted topic", administration.get_topic, topic)
        refused(ResourceNotFoundError, "its subscription", administration.get_subscription, topic, "bill")
        refused(MessagingEntityNotFoundError, "sending to a deleted topic", publish, client, topic, "late")


@check("topic-scheduled")
def messages_scheduled_on_a_topic_wait_there(namespace, topic):
    topic = f"{topic}-t"
    with namespace.administration() as administration, namespace.client() as client:
        administration.create_topic(topic)
        for name in ("a", "b"):
            administration.create_subscription(topic, name)
        with client.get_topic_sender(topic) as sender:
            later = [ServiceBusMessage("later"), ServiceBusMessage("never")]
            numbers = sender.schedule_messages(later, after(hours=1))
            expect(namespace.topic_counts(topic), (2, 2), "subscriptions and scheduled messages")
            sender.cancel_scheduled_messages(numbers[1:])
            expect(namespace.topic_counts(topic), (2, 1), "after one was cancelled")
            due = after(seconds=2)
            sender.schedule_messages(ServiceBusMessage("soon"), due)
        for name in ("a", "b"):
            with client.get_subscription_receiver(topic, name) as receiver:
                (message,) = complete_all(receiver, 1)
            expect(body(message), b"soon", f"what {name} got")
        expect(after() >= due, True, "it did not come early")
        expect(namespace.topic_counts(topic), (2, 1), "when it was due")


@check("topic-forwarding")
def subscriptions_forward_to_a_queue(namespace, queue):
    topic = f"{queue}-t"
    with namespace.administration() as administration, namespace.client() as client:
        administration.create_topic(topic)
        refused(HttpResponseError, "no such target", administration.create_subscription, topic, "on", forward_to="nowhere")
        created = administration.create_subscription(topic, "on", forward_to=queue)
        expect(created.forward_to.rsplit("/", 1)[-1], queue, "the target")
        publish(client, topic, "moves")
        (message,) = receive_and_complete(client, queue, 1)
        expect(body(message), b"moves", "what the queue got")

        target = administration.get_queue(queue)
        target.status = EntityStatus.SEND_DISABLED
        administration.update_queue(target)
        publish(client, topic, "waits")
        expect(namespace.subscription_counts(topic, "on"), (0, 0, 1, 0), "counts while the target takes none")
        refused(MessagingEntityDisabledError, "sending to it", send, client, queue, "direct")
        target.status = EntityStatus.ACTIVE
        administration.update_queue(target)
        (message,) = receive_and_complete(client, queue, 1)
        expect(body(message), b"waits", "what moved on")

        administration.delete_queue(queue)
        publish(client, topic, "strands")
        expect(namespace.subscription_counts(topic, "on"), (0, 0, 0, 1), "counts without a target")
        sub_queue = ServiceBusSubQueue.TRANSFER_DEAD_LETTER
        with client.get_subscription_receiver(topic, "on", sub_queue=sub_queue) as receiver:
            expect(body(one(receiver)), b"strands", "what could not move on")
        subscription = administration.get_subscription(topic, "on")
        subscription.forward_to = None
        administration.update_subscription(topic, subscription)
        expect(administration.get_subscription(topic, "on").forward_to, None, "forwarding ended")
        publish(client, topic, "stays")
        expect(namespace.subscription_counts(topic, "on"), (1, 0, 0, 1), "counts when nothing is forwarded")


@check("topic-listing")
def listings_come_in_pages_of_a_hundred(namespace, topic):
    topic = f"{topic}-t"
    names = [f"s{index:03}" for index in range(105)]
    with namespace.administration() as administration:
        administration.create_topic(topic)
        expect(list(administration.list_subscriptions(topic)), [], "subscriptions of a new topic")
        for name in names:
            administration.create_subscription(topic, name)
        pages = [[entry.name for entry in page] for page in administration.list_subscriptions(topic).by_page()]
        expect([len(page) for page in pages], [100, 5], "entries on the pages")
        expect([name for page in pages for name in page], names, "names in order")
        expect(len(list(administration.list_subscriptions_runtime_properties(topic))), 105, "their runtime properties")
        expect(namespace.topic_counts(topic), (105, 0), "subscriptions the topic counts")
        expect(topic in {entry.name for entry in administration.list_topics()}, True, "the topic in the listing")
        for name in [f"{topic}-queue-{index:03}" for index in range(101)]:
            administration.create_queue(name)
        queues = [entry.name for entry in administration.list_queues()]
        expect(len([name for name in queues if name.startswith(f"{topic}-queue-")]), 101, "queues on several pages")
        expect(len(set(queues)), len(queues), "queues listed once")


@check("topic-rules")
def the_true_rule_is_the_only_one(namespace, topic):
    topic = f"{topic}-t"
    with namespace.administration() as administration:
        administration.create_topic(topic)
        administration.create_subscription(topic, "s")
        (rule,) = administration.list_rules(topic, "s")
        expect((rule.name, type(rule.filter)), ("$Default", TrueRuleFilter), "the rule listed")
        expect(administration.get_rule(topic, "s", "$Default").name, "$Default", "the rule by its name")
        filter = SqlRuleFilter("colour = 'red'")
        error = refused(HttpResponseError, "a rule", administration.create_rule, topic, "s", "red", filter=filter)
        expect(error.status_code, 501, "status of a new rule")
        error = refused(HttpResponseError, "deleting the rule", administration.delete_rule, topic, "s", "$Default")
        expect(error.status_code, 501, "status of deleting the rule")
        refused(ResourceNotFoundError, "another rule", administration.get_rule, topic, "s", "red")


def run_check(broker, function, queue):
    entities = ["--queue", queue, "--topic", FLAGGED[0], "--subscription", "/".join(FLAGGED)]
    with started(broker, "--listen", "127.0.0.1:0", *entities) as ready:
        function(Namespace(ready), queue.split(",")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True, help="the broker's binary")
    arguments = parser.parse_args()
    print(f"azure-servicebus {azure.servicebus.__version__} against {arguments.broker}", flush=True)
    bound = [
        (function.__name__.replace("_", " "), functools.partial(run_check, arguments.broker, function, queue))
        for function, queue in CHECKS
    ]
    return run_checks(bound, at_once=CHECKS_AT_ONCE)


if __name__ == "__main__":
    run_program(main)
