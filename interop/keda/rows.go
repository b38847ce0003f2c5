package main

// The table: what is in the namespace, and one row per trigger with what the built-in trigger must say of it. Ours must say
// the same, except where a row lists the difference and why it is wanted; a listed difference that is not there fails, too.

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	v2 "k8s.io/api/autoscaling/v2"
)

// pagedQueues and pagedSubscriptions are more than the 100 that one page of a listing holds.
const (
	pagedQueues        = 150
	pagedSubscriptions = 120
)

// Why a difference is wanted.
const (
	whySubscription = "names the subscription, and no queue's name can be the same: two triggers can be told apart"
	whyLowerCase    = "lower case: KEDA does not correct the names of external scalers' metrics (keda#1168)"
	whyHash         = "a.b, a/b and a-b are three queues: a hash tells apart what the built-in gives one name"
	whyDisabled     = "nothing can be received from it, so replicas would idle (keda#5712)"
	whyFallback     = "the target needs no connection, and without one KEDA's fallback never acts (keda#8056)"
	whyTarget       = "no HPA accepts a target below 1: said at once instead of when the HPA is written"
	whyLimit        = "a limit far beyond use keeps value and target exact in KEDA's thousandths"
	whyActivation   = "below 0 it would be active for ever, also when empty: surely a mistake"
	whySecret       = "a secret in the ScaledObject is refused, whatever else is given"
	whyLongPattern  = "patterns come from whoever may write a ScaledObject: at most 256 bytes"
	whyOneOperation = "the built-in lets a list through and then reads 0 for ever"
)

// difference is a field in which ours must say something else.
type difference struct {
	field, ours, why string
}

const (
	fieldMetric  = "metric"
	fieldTarget  = "target"
	fieldReading = "reading"
)

type row struct {
	name    string
	trigger metadata
	// connect changes the connection string that KEDA resolves; nil leaves it, "" means that it resolves to nothing.
	connect    func(connectionString string) string
	index      int
	metricType v2.MetricTargetType
	// builtin is what the built-in trigger must say.
	builtin answer
	// wanted are the only differences that ours may and must have.
	wanted []difference
}

func queuesOfTable() []queueState {
	queues := []queueState{
		{name: "empty"},
		{name: "one", active: 1},
		{name: "seven", active: 7},
		{name: "Mixed.Case_1/inner-part", active: 3},
		{name: "locked", active: 1, locked: 3},
		{name: "all-locked", locked: 2},
		{name: "scheduled", active: 2, scheduled: 3},
		{name: "only-scheduled", scheduled: 3},
		{name: "dead", active: 2, deadLettered: 3},
		{name: "only-dead", deadLettered: 2},
		{name: "disabled", active: 4, status: admin.EntityStatusDisabled},
		{name: "receive-disabled", active: 4, status: admin.EntityStatusReceiveDisabled},
		{name: "send-disabled", active: 4, status: admin.EntityStatusSendDisabled},
		// For patterns: the counts are powers of two, so that a sum says which ones were counted.
		{name: "rx-a", active: 1},
		{name: "rx-ab", active: 2},
		{name: "rx-abc", active: 4},
		{name: "xrx-a", active: 8},
		{name: "rx-a-tail", active: 16},
		{name: "rx-Upper", active: 32},
		{name: "half-on", active: 3},
		{name: "half-off", active: 8, status: admin.EntityStatusDisabled},
		{name: "arriving"},
		{name: "leaving", active: 2},
	}
	for number := range pagedQueues {
		queue := queueState{name: fmt.Sprintf("page-%03d", number)}
		switch number {
		case 0, 99, 100, pagedQueues - 1:
			queue.active = 1
		}
		queues = append(queues, queue)
	}
	return queues
}

func topicsOfTable() []topicState {
	many := topicState{name: "many"}
	for number := range pagedSubscriptions {
		many.subscriptions = append(many.subscriptions, subscriptionState{name: fmt.Sprintf("sub-%03d", number), active: 1})
	}
	return []topicState{
		{name: "events", subscriptions: []subscriptionState{
			{name: "audit", active: 4},
			{name: "billing", active: 2},
			{name: "billing-eu", active: 1},
			{name: "empty"},
			{name: "locked", active: 1, locked: 2},
			{name: "dead", active: 1, deadLettered: 2},
			{name: "disabled", active: 3, status: admin.EntityStatusDisabled},
			{name: "receive-disabled", active: 3, status: admin.EntityStatusReceiveDisabled},
		}},
		{name: "lonely"},
		many,
	}
}

func rows() []row {
	var all []row
	for _, part := range [][]row{queueRows(), subscriptionRows(), queuePatternRows(), subscriptionPatternRows(), wrongRows(), connectionRows()} {
		all = append(all, part...)
	}
	return all
}

func queueRows() []row {
	return []row{
		{name: "queue", trigger: queue("seven"), builtin: says("seven", "5", "7 active")},
		{name: "queue, empty", trigger: queue("empty"), builtin: says("empty", "5", "0 inactive")},
		{name: "queue, not there", trigger: queue("nowhere"), builtin: says("nowhere", "5", failing)},
		{name: "queue that is a topic", trigger: queue("events"), builtin: says("events", "5", failing)},
		{name: "target 1", trigger: queue("seven", "messageCount", "1"), builtin: says("seven", "1", "7 active")},
		{name: "target 1000000", trigger: queue("seven", "messageCount", "1000000"), builtin: says("seven", "1M", "7 active")},
		{name: "target given as empty", trigger: queue("seven", "messageCount", ""), builtin: says("seven", "5", "7 active")},
		{name: "target in spaces", trigger: queue("seven", "messageCount", " 3 "), builtin: says("seven", "3", "7 active")},
		{name: "queue's name in spaces", trigger: queue(" seven "), builtin: says("seven", "5", "7 active")},
		{name: "one message, activation 0", trigger: queue("one"), builtin: says("one", "5", "1 active")},
		{name: "activation below the count", trigger: queue("seven", "activationMessageCount", "6"), builtin: says("seven", "5", "7 active")},
		{name: "activation at the count", trigger: queue("seven", "activationMessageCount", "7"), builtin: says("seven", "5", "7 inactive")},
		{name: "activation above the count", trigger: queue("seven", "activationMessageCount", "8"), builtin: says("seven", "5", "7 inactive")},
		{name: "activation given as empty", trigger: queue("seven", "activationMessageCount", ""), builtin: says("seven", "5", "7 active")},
		{name: "locked messages", trigger: queue("locked"), builtin: says("locked", "5", "4 active")},
		{name: "locked messages only", trigger: queue("all-locked"), builtin: says("all-locked", "5", "2 active")},
		{name: "scheduled messages", trigger: queue("scheduled"), builtin: says("scheduled", "5", "2 active")},
		{name: "scheduled messages only", trigger: queue("only-scheduled"), builtin: says("only-scheduled", "5", "0 inactive")},
		{name: "dead-lettered messages", trigger: queue("dead"), builtin: says("dead", "5", "2 active")},
		{name: "dead-lettered messages only", trigger: queue("only-dead"), builtin: says("only-dead", "5", "0 inactive")},
		{
			name: "disabled", trigger: queue("disabled"), builtin: says("disabled", "5", "4 active"),
			wanted: []difference{{fieldReading, "0 inactive", whyDisabled}},
		},
		{
			name: "receive-disabled", trigger: queue("receive-disabled"), builtin: says("receive-disabled", "5", "4 active"),
			wanted: []difference{{fieldReading, "0 inactive", whyDisabled}},
		},
		{name: "send-disabled", trigger: queue("send-disabled"), builtin: says("send-disabled", "5", "4 active")},
		{
			name: "name with capitals, dots and slashes", trigger: queue("Mixed.Case_1/inner-part"),
			builtin: says("Mixed-Case_1-inner-part", "5", "3 active"),
			wanted:  []difference{{fieldMetric, metricName("mixed-case_1-inner-part-" + hashOf("queue", "mixed.case_1/inner-part", "")), whyHash}},
		},
		{
			name: "name in another case than the queue's", trigger: queue("SEVEN"), builtin: says("SEVEN", "5", "7 active"),
			wanted: []difference{{fieldMetric, metricName("seven"), whyLowerCase}},
		},
		{
			name: "third trigger of its object", trigger: queue("seven"), index: 2,
			builtin: answer{metric: "s2-azure-servicebus-seven", target: "AverageValue 5", reading: "7 active"},
		},
		{
			name: "metric type Value", trigger: queue("seven"), metricType: v2.ValueMetricType,
			builtin: answer{metric: metricName("seven"), target: "Value 5", reading: "7 active"},
		},
		{name: "metric type Utilization", trigger: queue("seven"), metricType: v2.UtilizationMetricType, builtin: none()},
		{name: "keys that nobody knows", trigger: queue("seven", "colour", "blue", "messagecount", "2"), builtin: says("seven", "5", "7 active")},
		{
			name:    "namespace and cloud beside a connection string",
			trigger: queue("seven", "namespace", "elsewhere", "cloud", "AzureUSGovernmentCloud"),
			builtin: says("seven", "5", "7 active"),
		},
	}
}

func subscriptionRows() []row {
	return []row{
		onSubscription("subscription", "events", "audit", "4 active"),
		onSubscription("another of the same topic", "events", "billing", "2 active"),
		onSubscription("subscription, empty", "events", "empty", "0 inactive"),
		onSubscription("subscription, not there", "events", "nowhere", failing),
		onSubscription("subscription of a topic that is not there", "nowhere", "audit", failing),
		onSubscription("subscription of a queue", "seven", "audit", failing),
		onSubscription("subscription, target 2", "events", "audit", "4 active", "messageCount", "2"),
		onSubscription("subscription, activation below the count", "events", "audit", "4 active", "activationMessageCount", "3"),
		onSubscription("subscription, activation at the count", "events", "audit", "4 inactive", "activationMessageCount", "4"),
		onSubscription("subscription, activation above the count", "events", "audit", "4 inactive", "activationMessageCount", "5"),
		onSubscription("subscription, locked messages", "events", "locked", "3 active"),
		onSubscription("subscription, dead-lettered messages", "events", "dead", "1 active"),
		differing(onSubscription("subscription, disabled", "events", "disabled", "3 active"), fieldReading, "0 inactive", whyDisabled),
		differing(onSubscription("subscription, receive-disabled", "events", "receive-disabled", "3 active"), fieldReading, "0 inactive", whyDisabled),
	}
}

func queuePatternRows() []row {
	found := func(name, pattern, reading string, more ...string) row {
		return row{
			name: name, trigger: queue(pattern, append([]string{"useRegex", "true"}, more...)...),
			builtin: answer{metric: metricName("queue-regex"), target: "AverageValue 5", reading: reading},
		}
	}
	return []row{
		found("pattern, sum by default", "rx-a|rx-ab|rx-abc", "7 active"),
		found("pattern, sum", "rx-(a|ab|abc)", "7 active", "operation", "sum"),
		found("pattern, max", "rx-(a|ab|abc)", "4 active", "operation", "max"),
		found("pattern, avg rounds down", "rx-(a|ab|abc)", "2 active", "operation", "avg"),
		found("pattern, operation given as empty", "rx-(a|ab|abc)", "7 active", "operation", ""),
		found("pattern, no match", "nothing-.*", "0 inactive"),
		found("pattern, no match, max", "nothing-.*", "0 inactive", "operation", "max"),
		found("pattern, no match, avg", "nothing-.*", "0 inactive", "operation", "avg"),
		found("pattern, part of a name is no match", "rx-a", "1 active"),
		found("pattern, shorter alternative first", "rx-(a|ab)", "3 active"),
		found("pattern, longer alternative first", "rx-(ab|a)", "3 active"),
		found("pattern, alternatives without brackets", "rx-a|ab", "1 active"),
		found("pattern, anchored", "^rx-ab$", "2 active"),
		found("pattern, anchored at the start only", "^rx-ab", "2 active"),
		found("pattern, anchor in one alternative", "^rx-a|rx-ab$", "3 active"),
		found("pattern, lazy repetition takes the whole name all the same", "rx-a.*?", "23 active"),
		found("pattern, everything after a start", "rx-.*", "55 active"),
		found("pattern, anywhere", ".*rx-a", "9 active"),
		found("pattern, may match nothing", "(rx-a)?", "1 active"),
		found("pattern, case counts", "RX-A", "0 inactive"),
		found("pattern, case folded", "(?i)RX-UPPER", "32 active"),
		found("pattern, class", "rx-[a-c]{2,3}", "6 active"),
		found("pattern, named class", "rx-[[:lower:]]+", "7 active"),
		found("pattern, Unicode class", `rx-\p{Lu}.*`, "32 active"),
		found("pattern, escapes", `rx\-\x61\w*`, "7 active"),
		found("pattern, word boundary", `rx-a\b.*`, "17 active"),
		found("pattern, end of text", `rx-ab\z`, "2 active"),
		found("pattern, named group", `rx-(?P<rest>ab?)`, "3 active"),
		found("pattern, literal part", `\Qrx-a\E`, "1 active"),
		found("pattern, plain ampersands and brackets in a class", "rx-[[a&&b]+", "3 active"),
		found("pattern, a brace that begins no count", "rx-a{,3}", "0 inactive"),
		found("pattern, in spaces", " rx-a ", "1 active"),
		found("pattern over several pages", "page-.*", "4 active"),
		found("pattern over several pages, max", "page-.*", "1 active", "operation", "max"),
		found("pattern over several pages, avg", "page-.*", "0 inactive", "operation", "avg"),
		found("pattern, activation below", "rx-(a|ab|abc)", "7 active", "activationMessageCount", "6"),
		found("pattern, activation at", "rx-(a|ab|abc)", "7 inactive", "activationMessageCount", "7"),
		found("pattern, activation of the average", "rx-(a|ab|abc)", "2 inactive", "operation", "avg", "activationMessageCount", "2"),
		differing(found("pattern, one of two disabled", "half-.*", "11 active"), fieldReading, "3 active", whyDisabled),
		differing(found("pattern, all disabled", "half-off", "8 active"), fieldReading, "0 inactive", whyDisabled),
		oursRefuses(found("pattern, longer than 256 bytes", strings.Repeat("rx-a|", 60)+"rx-a", "1 active"), whyLongPattern),
		{name: "useRegex: True", trigger: queue("rx-.*", "useRegex", "True"), builtin: says("queue-regex", "5", "55 active")},
		{name: "useRegex: 1", trigger: queue("rx-.*", "useRegex", "1"), builtin: says("queue-regex", "5", "55 active")},
		{name: "useRegex: t", trigger: queue("rx-.*", "useRegex", "t"), builtin: says("queue-regex", "5", "55 active")},
		{name: "useRegex: FALSE", trigger: queue("rx-a", "useRegex", "FALSE"), builtin: says("rx-a", "5", "1 active")},
		{name: "useRegex: 0", trigger: queue("rx-a", "useRegex", "0"), builtin: says("rx-a", "5", "1 active")},
		{name: "useRegex given as empty", trigger: queue("rx-a", "useRegex", ""), builtin: says("rx-a", "5", "1 active")},
		{name: "useRegex: yes", trigger: queue("rx-a", "useRegex", "yes"), builtin: none()},
		{name: "operation without useRegex", trigger: queue("seven", "operation", "max"), builtin: says("seven", "5", "7 active")},
	}
}

func subscriptionPatternRows() []row {
	found := func(name, topic, pattern, reading string, more ...string) row {
		return row{
			name: name, trigger: subscription(topic, pattern, append([]string{"useRegex", "true"}, more...)...),
			builtin: answer{metric: metricName("topic-regex"), target: "AverageValue 5", reading: reading},
		}
	}
	return []row{
		found("subscriptions, sum by default", "events", "billing.*", "3 active"),
		found("subscriptions, sum", "events", "audit|billing|billing-eu", "7 active", "operation", "sum"),
		found("subscriptions, max", "events", "audit|billing|billing-eu", "4 active", "operation", "max"),
		found("subscriptions, avg", "events", "audit|billing|billing-eu", "2 active", "operation", "avg"),
		found("subscriptions, part of a name is no match", "events", "billing", "2 active"),
		found("subscriptions, no match", "events", "nothing-.*", "0 inactive"),
		found("subscriptions, none there", "lonely", ".*", "0 inactive"),
		found("subscriptions over several pages", "many", "sub-.*", "120 active"),
		found("subscriptions over several pages, avg", "many", "sub-.*", "1 active", "operation", "avg"),
		found("subscriptions, activation at", "many", "sub-.*", "120 inactive", "activationMessageCount", "120"),
		found("subscriptions, the topic's name is no pattern", "event.", "audit", failing),
		found("subscriptions of a topic that is not there", "nowhere", ".*", failing),
		{name: "subscriptions, bad pattern", trigger: subscription("events", "bill(", "useRegex", "true"), builtin: none()},
	}
}

func wrongRows() []row {
	bad := func(name string, trigger metadata) row { return row{name: name, trigger: trigger, builtin: none()} }
	return []row{
		bad("no entity", metadata{}),
		bad("queue's name given as empty", queue("")),
		bad("queue and topic", metadata{"queueName": "seven", "topicName": "events", "subscriptionName": "audit"}),
		bad("queue and topic without subscription", metadata{"queueName": "seven", "topicName": "events"}),
		bad("queue and subscription", metadata{"queueName": "seven", "subscriptionName": "audit"}),
		bad("topic without subscription", metadata{"topicName": "events"}),
		bad("subscription without topic", metadata{"subscriptionName": "audit"}),
		bad("target in words", queue("seven", "messageCount", "five")),
		bad("target with a fraction", queue("seven", "messageCount", "2.5")),
		bad("target in powers of ten", queue("seven", "messageCount", "1e3")),
		bad("target beyond 64 bits", queue("seven", "messageCount", "99999999999999999999")),
		bad("target with a plus", queue("seven", "messageCount", "+5")),
		bad("target with a leading zero", queue("seven", "messageCount", "05")),
		bad("activation in words", queue("seven", "activationMessageCount", "none")),
		bad("activation with a fraction", queue("seven", "activationMessageCount", "0.5")),
		bad("bad pattern", queue("rx-(", "useRegex", "true")),
		bad("bad pattern that brackets would mend", queue("rx-a)(b", "useRegex", "true")),
		bad("pattern with a look-ahead", queue("rx-(?=a)a", "useRegex", "true")),
		bad("pattern with a back-reference", queue(`(r)x-\1`, "useRegex", "true")),
		bad("pattern that ignores blanks", queue("(?x) rx - a", "useRegex", "true")),
		bad("pattern with a repetition repeated", queue("rx-a**", "useRegex", "true")),
		bad("pattern that repeats too often", queue("rx-a{1001}", "useRegex", "true")),
		bad("operation in capitals", queue("rx-.*", "useRegex", "true", "operation", "Sum")),
		bad("operation that is none", queue("rx-.*", "useRegex", "true", "operation", "min")),
		bad("operation that is none, without useRegex", queue("seven", "operation", "min")),
		oursRefuses(row{
			name: "two operations", trigger: queue("rx-.*", "useRegex", "true", "operation", "sum,max"),
			builtin: says("queue-regex", "5", "0 inactive"),
		}, whyOneOperation),
		oursRefuses(row{name: "target 0", trigger: queue("seven", "messageCount", "0"), builtin: says("seven", "0", "7 active")}, whyTarget),
		oursRefuses(row{name: "target below 0", trigger: queue("seven", "messageCount", "-1"), builtin: says("seven", "-1", "7 active")}, whyTarget),
		oursRefuses(row{name: "target 1000001", trigger: queue("seven", "messageCount", "1000001"), builtin: says("seven", "1000001", "7 active")}, whyLimit),
		oursRefuses(row{name: "activation below 0", trigger: queue("empty", "activationMessageCount", "-1"), builtin: says("empty", "5", "0 active")}, whyActivation),
		oursRefuses(row{
			name: "secret in the metadata, too", trigger: queue("seven", "connection", "Endpoint=sb://elsewhere.example"),
			builtin: says("seven", "5", "7 active"),
		}, whySecret),
	}
}

func connectionRows() []row {
	onSeven := func(name string, connect func(string) string, reading string) row {
		return row{name: name, trigger: queue("seven"), connect: connect, builtin: says("seven", "5", reading)}
	}
	none := row{name: "no connection string", trigger: queue("seven"), connect: func(string) string { return "" }, builtin: none()}
	none.wanted = []difference{{fieldMetric, metricName("seven"), whyFallback}, {fieldTarget, "AverageValue 5", whyFallback}}
	return []row{
		none,
		onSeven("wrong key", func(good string) string { return withPart(good, "SharedAccessKey", "d3Jvbmc=") }, failing),
		onSeven("key's name that nobody knows", func(good string) string { return withPart(good, "SharedAccessKeyName", "Nobody") }, failing),
		onSeven("no connection string at all", func(string) string { return "nonsense" }, failing),
		onSeven("connection string without a key", func(good string) string { return withPart(good, "SharedAccessKey", "") }, failing),
		onSeven("nobody listens there", func(good string) string { return withPart(good, "Endpoint", deadEndpoint) }, failing),
		onSeven("connection string of another entity", func(good string) string { return good + ";EntityPath=one" }, "7 active"),
		onSeven("ready token", signedFor(hour), "7 active"),
		onSeven("ready token that ran out", signedFor(-hour), failing),
	}
}

func queue(name string, more ...string) metadata { return metadata{"queueName": name}.with(more...) }

func subscription(topic, name string, more ...string) metadata {
	return metadata{"topicName": topic, "subscriptionName": name}.with(more...)
}

// with adds keys and values, given in turn.
func (m metadata) with(more ...string) metadata {
	all := maps.Clone(m)
	for index := 0; index < len(more); index += 2 {
		all[more[index]] = more[index+1]
	}
	return all
}

func metricName(entity string) string { return "s0-azure-servicebus-" + entity }

// hashOf is what our metric names end in where the built-in's would not tell two entities apart. It is written a second time
// here because the names must never change: they stand in HPAs and on dashboards.
func hashOf(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		hash.Write([]byte(part))
	}
	return hex.EncodeToString(hash.Sum(nil)[:4])
}

func says(entity, target, reading string) answer {
	return answer{metric: metricName(entity), target: "AverageValue " + target, reading: reading}
}

// none is a trigger that cannot be used at all.
func none() answer { return answer{reading: failing} }

func onSubscription(name, topic, of, reading string, more ...string) row {
	trigger := subscription(topic, of, more...)
	target := trigger["messageCount"]
	if target == "" {
		target = "5"
	}
	made := row{name: name, trigger: trigger, builtin: says(topic, target, reading)}
	return differing(made, fieldMetric, metricName(topic+"-"+of+"-"+hashOf("subscription", topic, of)), whySubscription)
}

func differing(row row, field, ours, why string) row {
	row.wanted = append(row.wanted, difference{field, ours, why})
	return row
}

func oursRefuses(refused row, why string) row {
	refused.wanted = []difference{{fieldMetric, "", why}, {fieldTarget, "", why}, {fieldReading, failing, why}}
	return refused
}
