package main

// What is in the namespace of one cell of the benchmark, and which ScaledObjects look at it.

import (
	"fmt"
	"strings"
)

// layout is what the ScaledObjects read.
type layout string

const (
	// oneQueue is the same queue for all.
	oneQueue layout = "one-queue"
	// distinctQueues is a queue for each, and no others in the namespace.
	distinctQueues layout = "distinct-queues"
	// subscriptions is a subscription for each, of 500 in 50 topics, spread over the topics as far as they go.
	subscriptions layout = "subscriptions"
)

const (
	topicsOfCell         = 50
	subscriptionsOfTopic = 10
	// busyMessages wait in each entity of a busy cell; so there are replicas, and the HPA asks too.
	busyMessages = 3
)

var allLayouts = []layout{oneQueue, distinctQueues, subscriptions}

func layoutNames() string {
	var names []string
	for _, layout := range allLayouts {
		names = append(names, string(layout))
	}
	return strings.Join(names, ", ")
}

type cell struct {
	Objects int    `json:"scaledObjects"`
	Layout  layout `json:"read"`
	// Busy is with messages and replicas: polls and HPA syncs. Otherwise there are no replicas, and polls alone.
	Busy bool `json:"busy"`
}

func (c cell) state() string {
	if c.Busy {
		return "busy"
	}
	return "idle"
}

func (c cell) String() string { return fmt.Sprintf("%d on %s, %s", c.Objects, c.Layout, c.state()) }

func (c cell) messages() int {
	if c.Busy {
		return busyMessages
	}
	return 0
}

// reading is what every one of them must be told.
func (c cell) reading() string { return counted(fmt.Sprint(c.messages()), c.Busy) }

func (c cell) queues() []queueState {
	count := map[layout]int{oneQueue: 1, distinctQueues: c.Objects}[c.Layout]
	queues := make([]queueState, count)
	for index := range queues {
		queues[index] = queueState{name: queueOfCell(index), active: c.messages()}
	}
	return queues
}

func (c cell) topics() []topicState {
	if c.Layout != subscriptions {
		return nil
	}
	topics := make([]topicState, topicsOfCell)
	for index := range topics {
		topics[index].name = topicOfCell(index)
		for number := range subscriptionsOfTopic {
			topics[index].subscriptions = append(topics[index].subscriptions, subscriptionState{name: subscriptionOfCell(number), active: c.messages()})
		}
	}
	return topics
}

// scaledObjects are the triggers as KEDA has them in its cache, one for each.
func (c cell) scaledObjects(connectionString string) []*kedaConfig {
	environment := map[string]string{connectionVariable: connectionString}
	objects := make([]*kedaConfig, c.Objects)
	for index := range objects {
		var trigger metadata
		switch c.Layout {
		case oneQueue:
			trigger = queue(queueOfCell(0))
		case distinctQueues:
			trigger = queue(queueOfCell(index))
		case subscriptions:
			trigger = subscription(topicOfCell(index%topicsOfCell), subscriptionOfCell(index/topicsOfCell))
		}
		trigger = trigger.with("connectionFromEnv", connectionVariable)
		objects[index] = triggerConfig(fmt.Sprintf("receiver-%03d", index), 0, "", trigger, environment)
	}
	return objects
}

func queueOfCell(index int) string         { return fmt.Sprintf("orders-%03d", index) }
func topicOfCell(index int) string         { return fmt.Sprintf("events-%02d", index) }
func subscriptionOfCell(number int) string { return fmt.Sprintf("handler-%d", number) }
