package main

// What is in the namespace of one cell of the benchmark, and which ScaledObjects look at it.

import (
	"fmt"
	"strings"
	"time"
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
	// subscriptionsWide is the same for a scaler whose config file has a budget that suffices for all of it.
	subscriptionsWide layout = "subscriptions-wide-budget"
)

const (
	topicsOfCell         = 50
	subscriptionsOfTopic = 10
	// busyMessages wait in each entity of a busy cell; so there are replicas, and the HPA asks too.
	busyMessages = 3
)

// A page of each topic's subscriptions at every cacheTtl is 10 credits times 50 topics in 5 s, twice the scaler's default budget.
const (
	creditsOfPage  = 10
	cacheTTL       = 5 * time.Second
	defaultCredits = 50
	wideCredits    = 200
)

var allLayouts = []layout{oneQueue, distinctQueues, subscriptions, subscriptionsWide}

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

// isStretched says whether the scaler's budget is too small to read all that is wanted at every cacheTtl. Then readings get
// older, as they should, and the first ones of a scaler that has just started may come too late for whoever asks.
func (c cell) isStretched() bool {
	asked := 1 / pollingInterval.Seconds()
	if c.Busy {
		asked += 1 / syncInterval.Seconds()
	}
	pages := min(float64(c.Objects)*asked, topicsOfCell/cacheTTL.Seconds())
	return c.Layout == subscriptions && pages*creditsOfPage > defaultCredits
}

// scalerConfig is the scaler's config file, "" for none.
func (c cell) scalerConfig() string {
	if c.Layout == subscriptionsWide {
		return fmt.Sprintf("creditsPerSecond: %d\n", wideCredits)
	}
	return ""
}

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
	if c.Layout != subscriptions && c.Layout != subscriptionsWide {
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
		case subscriptions, subscriptionsWide:
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
