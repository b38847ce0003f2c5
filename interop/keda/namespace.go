package main

// A Service Bus namespace seen through Microsoft's Go SDK: entities are made, filled and brought into the state that a row
// needs by a client that we did not write, and counted by it before anything is compared.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

const (
	// longLock keeps a message locked for as long as the whole comparison takes.
	longLock = "PT5M"
	// farAway is when scheduled messages come due: not in this run.
	farAway = 24 * time.Hour
	// receivePatience is for messages that are known to be there.
	receivePatience = 20 * time.Second
)

type namespace struct {
	connectionString string

	admin *admin.Client
	data  *azservicebus.Client
	// holding are the receivers whose locked messages must stay locked. Entities are made side by side.
	holding []*azservicebus.Receiver
	// guard is for holding.
	guard sync.Mutex
}

// queueState is a queue and what shall be in it.
type queueState struct {
	name                                    string
	active, locked, scheduled, deadLettered int
	status                                  admin.EntityStatus
}

// topicState is a topic and what shall be in its subscriptions.
type topicState struct {
	name          string
	subscriptions []subscriptionState
}

type subscriptionState struct {
	name                         string
	active, locked, deadLettered int
	status                       admin.EntityStatus
}

func newNamespace(connectionString string) (*namespace, error) {
	adminClient, err := admin.NewClientFromConnectionString(connectionString, nil)
	if err != nil {
		return nil, err
	}
	endpoint, err := endpointOf(connectionString)
	if err != nil {
		return nil, err
	}
	// The SDK takes host and port together for the certificate's name, unless told the host alone.
	host, _, _ := net.SplitHostPort(endpoint)
	options := &azservicebus.ClientOptions{TLSConfig: &tls.Config{ServerName: host}}
	dataClient, err := azservicebus.NewClientFromConnectionString(connectionString, options)
	if err != nil {
		return nil, err
	}
	return &namespace{connectionString: connectionString, admin: adminClient, data: dataClient}, nil
}

// close ends its connections, also when ctx is done already.
func (n *namespace) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	var problems []error
	for _, receiver := range n.holding {
		problems = append(problems, receiver.Close(ctx))
	}
	return errors.Join(append(problems, n.data.Close(ctx))...)
}

// makeQueue creates the queue, brings it into its state and checks that it is in it.
func (n *namespace) makeQueue(ctx context.Context, wanted queueState) error {
	lock := longLock
	properties := &admin.QueueProperties{LockDuration: &lock}
	if _, err := n.admin.CreateQueue(ctx, wanted.name, &admin.CreateQueueOptions{Properties: properties}); err != nil {
		return fmt.Errorf("cannot create queue %s: %w", wanted.name, err)
	}
	if err := n.fillQueue(ctx, wanted); err != nil {
		return fmt.Errorf("cannot fill queue %s: %w", wanted.name, err)
	}
	if wanted.status != "" {
		if err := n.setQueueStatus(ctx, wanted.name, wanted.status); err != nil {
			return fmt.Errorf("cannot set the status of queue %s: %w", wanted.name, err)
		}
	}
	counts, err := n.admin.GetQueueRuntimeProperties(ctx, wanted.name, nil)
	switch {
	case err != nil:
		return fmt.Errorf("cannot read queue %s: %w", wanted.name, err)
	case counts == nil:
		return fmt.Errorf("queue %s is not there after its creation", wanted.name)
	}
	actual := queueState{
		name: wanted.name, status: wanted.status, locked: wanted.locked,
		active:       int(counts.ActiveMessageCount) - wanted.locked,
		scheduled:    int(counts.ScheduledMessageCount),
		deadLettered: int(counts.DeadLetterMessageCount),
	}
	if actual != wanted {
		return fmt.Errorf("queue %s is %+v, not %+v", wanted.name, actual, wanted)
	}
	return nil
}

func (n *namespace) fillQueue(ctx context.Context, wanted queueState) error {
	if err := n.send(ctx, wanted.name, wanted.active+wanted.locked+wanted.deadLettered); err != nil {
		return err
	}
	if err := n.schedule(ctx, wanted.name, wanted.scheduled); err != nil {
		return err
	}
	newReceiver := func() (*azservicebus.Receiver, error) { return n.data.NewReceiverForQueue(wanted.name, nil) }
	return n.putAside(ctx, newReceiver, wanted.deadLettered, wanted.locked)
}

func (n *namespace) setQueueStatus(ctx context.Context, name string, status admin.EntityStatus) error {
	queue, err := n.admin.GetQueue(ctx, name, nil)
	switch {
	case err != nil:
		return err
	case queue == nil:
		return fmt.Errorf("queue %s is not there", name)
	}
	queue.Status = &status
	updated, err := n.admin.UpdateQueue(ctx, name, queue.QueueProperties, nil)
	switch {
	case err != nil:
		return err
	case updated.Status == nil || *updated.Status != status:
		return fmt.Errorf("its status is not %s after the update", status)
	}
	return nil
}

// makeTopic creates the topic with its subscriptions, brings them into their states and checks that they are in them.
func (n *namespace) makeTopic(ctx context.Context, wanted topicState) error {
	if _, err := n.admin.CreateTopic(ctx, wanted.name, nil); err != nil {
		return fmt.Errorf("cannot create topic %s: %w", wanted.name, err)
	}
	// Each message goes to every subscription: the fullest says how many to send, the others throw away what is too much.
	most := 0
	for _, subscription := range wanted.subscriptions {
		lock := longLock
		options := &admin.CreateSubscriptionOptions{Properties: &admin.SubscriptionProperties{LockDuration: &lock}}
		if _, err := n.admin.CreateSubscription(ctx, wanted.name, subscription.name, options); err != nil {
			return fmt.Errorf("cannot create subscription %s/%s: %w", wanted.name, subscription.name, err)
		}
		most = max(most, subscription.total())
	}
	if err := n.send(ctx, wanted.name, most); err != nil {
		return fmt.Errorf("cannot send to topic %s: %w", wanted.name, err)
	}
	for _, subscription := range wanted.subscriptions {
		if err := n.shapeSubscription(ctx, wanted.name, subscription, most-subscription.total()); err != nil {
			return fmt.Errorf("subscription %s/%s: %w", wanted.name, subscription.name, err)
		}
	}
	return nil
}

// setSubscriptionStatus writes it by hand: the Go SDK leaves a subscription's status out of what it sends (1.10.0,
// admin_client_subscription.go, newSubscriptionEnvelope).
func (n *namespace) setSubscriptionStatus(ctx context.Context, topic, name string, status admin.EntityStatus) error {
	endpoint, err := endpointOf(n.connectionString)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("https://%s/%s/Subscriptions/%s?api-version=2021-05", endpoint, topic, name)
	element := fmt.Sprintf("<Status>%s</Status>", status)
	body := fmt.Sprintf(`<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">`+
		`<SubscriptionDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">%s</SubscriptionDescription>`+
		`</content></entry>`, element)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", part(signedFor(hour)(n.connectionString), "SharedAccessSignature"))
	request.Header.Set("Content-Type", "application/atom+xml;type=entry;charset=utf-8")
	request.Header.Set("If-Match", "*")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(answer), element) {
		return fmt.Errorf("its status is not %s after the update: %s: %s", status, response.Status, answer)
	}
	return nil
}

func (s subscriptionState) total() int { return s.active + s.locked + s.deadLettered }

func (n *namespace) shapeSubscription(ctx context.Context, topic string, wanted subscriptionState, surplus int) error {
	newReceiver := func() (*azservicebus.Receiver, error) {
		return n.data.NewReceiverForSubscription(topic, wanted.name, nil)
	}
	if err := n.take(ctx, newReceiver, surplus); err != nil {
		return err
	}
	if err := n.putAside(ctx, newReceiver, wanted.deadLettered, wanted.locked); err != nil {
		return err
	}
	if wanted.status != "" {
		if err := n.setSubscriptionStatus(ctx, topic, wanted.name, wanted.status); err != nil {
			return err
		}
	}
	counts, err := n.admin.GetSubscriptionRuntimeProperties(ctx, topic, wanted.name, nil)
	switch {
	case err != nil:
		return err
	case counts == nil:
		return errors.New("it is not there after its creation")
	}
	actual := subscriptionState{
		name: wanted.name, status: wanted.status, locked: wanted.locked,
		active:       int(counts.ActiveMessageCount) - wanted.locked,
		deadLettered: int(counts.DeadLetterMessageCount),
	}
	if actual != wanted {
		return fmt.Errorf("it is %+v, not %+v", actual, wanted)
	}
	return nil
}

func (n *namespace) send(ctx context.Context, entity string, count int) error {
	return n.handOver(ctx, entity, count, "work", func(sender *azservicebus.Sender, messages []*azservicebus.Message) error {
		batch, err := sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		for _, message := range messages {
			if err := batch.AddMessage(message, nil); err != nil {
				return err
			}
		}
		return sender.SendMessageBatch(ctx, batch, nil)
	})
}

func (n *namespace) schedule(ctx context.Context, entity string, count int) error {
	return n.handOver(ctx, entity, count, "later", func(sender *azservicebus.Sender, messages []*azservicebus.Message) error {
		_, err := sender.ScheduleMessages(ctx, messages, time.Now().Add(farAway), nil)
		return err
	})
}

// handOver makes messages, if there are to be any, and lets `pass` send them.
func (n *namespace) handOver(ctx context.Context, entity string, count int, body string, pass func(*azservicebus.Sender, []*azservicebus.Message) error) error {
	if count == 0 {
		return nil
	}
	messages := make([]*azservicebus.Message, count)
	for index := range messages {
		messages[index] = &azservicebus.Message{Body: []byte(body)}
	}
	sender, err := n.data.NewSender(entity, nil)
	if err != nil {
		return err
	}
	defer sender.Close(ctx)
	return pass(sender, messages)
}

// take completes messages, as a worker does.
func (n *namespace) take(ctx context.Context, newReceiver func() (*azservicebus.Receiver, error), count int) error {
	return n.receive(ctx, newReceiver, count, func(receiver *azservicebus.Receiver, message *azservicebus.ReceivedMessage) error {
		return receiver.CompleteMessage(ctx, message, nil)
	})
}

// putAside dead-letters messages and locks others until the namespace is closed.
func (n *namespace) putAside(ctx context.Context, newReceiver func() (*azservicebus.Receiver, error), deadLettered, locked int) error {
	err := n.receive(ctx, newReceiver, deadLettered, func(receiver *azservicebus.Receiver, message *azservicebus.ReceivedMessage) error {
		return receiver.DeadLetterMessage(ctx, message, nil)
	})
	if err != nil || locked == 0 {
		return err
	}
	receiver, err := newReceiver()
	if err != nil {
		return err
	}
	n.guard.Lock()
	n.holding = append(n.holding, receiver)
	n.guard.Unlock()
	return receiveExactly(ctx, receiver, locked, func(*azservicebus.ReceivedMessage) error { return nil })
}

func (n *namespace) receive(ctx context.Context, newReceiver func() (*azservicebus.Receiver, error), count int, settle func(*azservicebus.Receiver, *azservicebus.ReceivedMessage) error) error {
	if count == 0 {
		return nil
	}
	receiver, err := newReceiver()
	if err != nil {
		return err
	}
	defer receiver.Close(ctx)
	return receiveExactly(ctx, receiver, count, func(message *azservicebus.ReceivedMessage) error { return settle(receiver, message) })
}

func receiveExactly(ctx context.Context, receiver *azservicebus.Receiver, count int, settle func(*azservicebus.ReceivedMessage) error) error {
	ctx, cancel := context.WithTimeout(ctx, receivePatience)
	defer cancel()
	for received := 0; received < count; {
		messages, err := receiver.ReceiveMessages(ctx, count-received, nil)
		if err != nil {
			return fmt.Errorf("after %d of %d messages: %w", received, count, err)
		}
		for _, message := range messages {
			if err := settle(message); err != nil {
				return err
			}
		}
		received += len(messages)
	}
	return nil
}
