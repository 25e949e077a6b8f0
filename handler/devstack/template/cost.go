package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hours of a month, as Azure's price lists count them.
const hours = 730

const costMark = "<!-- costs -->"

type priceList struct {
	Prices      map[string]float64 `json:"prices"`
	Assumptions map[string]float64 `json:"assumptions"`
}

func readPrices(root string) (l priceList, err error) {
	data, err := os.ReadFile(filepath.Join(root, "infra", "prices.json"))
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	return l, err
}

// item is one line of the bill, in the two variants.
type item struct {
	name            string
	public, private float64
}

// costTables are the README's: a month without a request, and a million requests.
func costTables(root string, all templates) (string, error) {
	l, err := readPrices(root)
	if err != nil {
		return "", err
	}
	p, a := l.Prices, l.Assumptions
	var b strings.Builder
	b.WriteString(costMark + "\n")
	write(&b, "a month without a request", idle(p, a, all))
	b.WriteByte('\n')
	write(&b, fmt.Sprintf("a million requests of %.0f s, %.0f at a time on an instance", a["secondsPerRequest"], a["requestsAtATime"]),
		busy(p, a))
	b.WriteByte('\n')
	writeMonths(&b, p, a, all)
	b.WriteString("<!-- /costs -->")
	return b.String(), nil
}

func idle(p, a map[string]float64, all templates) []item {
	probes := hours * 3600 / a["probeInterval"] * a["probingInstances"]
	sweeps := hours * 60 / a["sweepMinutes"]
	compute := func(executions float64) float64 { // a second each, the least that is billed
		return max(0, executions*a["instanceGB"]-p["functions.gigabyteSecondsFree"]) * p["functions.gigabyteSecond"]
	}
	telemetry := func(executions float64) float64 { // the host's own row of each execution
		return executions * a["kilobytesPerHostRequest"] / (1 << 20) * p["monitor.ingestedGigabyte"]
	}
	endpoints := a["aiRegions"]
	all.each("module", func(_ *file, d *declaration) {
		if d.Target == "link.bicep" && d.body().at("params", "groupId").text() != "account" {
			endpoints++
		}
	})
	zones := 0.0
	if names := all["network.bicep"].find("variable", "zoneNames"); names != nil {
		zones = float64(len(names.Value.Props))
	}
	return []item{
		{"Application Gateway WAF_v2, fixed price", 0, p["applicationGateway.hour"] * hours},
		{"a public address that stays", 0, p["publicAddress.hour"] * hours},
		{fmt.Sprintf("%.0f private endpoints", endpoints), 0, endpoints * p["privateLink.endpointHour"] * hours},
		{fmt.Sprintf("%.0f private DNS zones", zones), 0, zones * p["dns.zoneMonth"]},
		{"Functions: the timer, and the Application Gateway's probes", compute(sweeps), compute(sweeps + probes)},
		{"Application Insights: their rows", telemetry(sweeps), telemetry(sweeps + probes)},
		{"storage, vault, AI accounts", 0, 0},
	}
}

func busy(p, a map[string]float64) []item {
	const million = 1e6
	compute := million * a["secondsPerRequest"] / a["requestsAtATime"] * a["instanceGB"] * p["functions.gigabyteSecond"]
	rows := million * a["kilobytesPerRow"] / (1 << 20) * p["monitor.ingestedGigabyte"]
	hostRows := million * (a["kilobytesPerHostRequest"] + a["kilobytesPerReadLogged"]*a["blobReadsPerThousand"]/1000) / (1 << 20) *
		p["monitor.ingestedGigabyte"]
	archive := million * (a["blobWritesPerThousand"]/1000/10000*p["blobs.tenThousandWrites"] +
		a["blobReadsPerThousand"]/1000/10000*p["blobs.tenThousandReads"] +
		a["kilobytesArchived"]/(1<<20)*p["blobs.gigabyteMonth"])
	tables := million * a["tableOperationsPerThousand"] / 1000 / 10000 * p["tables.tenThousandOperations"]
	links := million * a["kilobytesThroughLinks"] / (1 << 20) * p["privateLink.gigabyte"]
	return []item{
		{"Functions, active time", compute, compute},
		{"Functions, executions", p["functions.millionExecutions"], p["functions.millionExecutions"]},
		{"Log Analytics, the gateway's rows", rows, rows},
		{"Log Analytics, requests of the host and reads of the archive", hostRows, hostRows},
		{"archive: writes, reads, and a month of keeping", archive, archive},
		{"tables: keys, limits, affinity", tables, tables},
		{"private endpoints, traffic", 0, links},
		{"Application Gateway, one capacity unit for 10 hours", 0, 10 * p["applicationGateway.capacityUnitHour"]},
	}
}

// writeMonths are whole months at several loads, next to what API Management costs before the first request.
func writeMonths(b *strings.Builder, p, a map[string]float64, all templates) {
	b.WriteString("| requests a month | public | private |\n|---|---:|---:|\n")
	for _, load := range []struct {
		name     string
		requests float64
	}{{"none", 0}, {"10,000", 1e4}, {"1 million", 1e6}, {"10 million", 1e7}} {
		public, private := month(p, a, all, load.requests)
		fmt.Fprintf(b, "| %s | %s | %s |\n", load.name, dollars(public), dollars(private))
	}
	b.WriteString("\n| what else a month costs, whatever the load | |\n|---|---:|\n")
	warm := a["alwaysReadyInstances"] * a["instanceGB"] * hours * 3600 * p["functions.alwaysReadyGigabyteSecond"]
	alerts := all["observe.bicep"].find("variable", "alerts").Value.count()
	for _, i := range []struct {
		name  string
		price float64
	}{
		{fmt.Sprintf("`GW_ALERT_EMAIL`: %d alerts on logs", alerts), float64(alerts) * p["monitor.logAlertMonth"]},
		{"`GW_ALERT_EMAIL` in `private`: an alert on a metric more", p["monitor.metricAlertMonth"]},
		{fmt.Sprintf("`GW_ALWAYS_READY %.0f` (as `GW_PRODUCTION` sets it), while they wait", a["alwaysReadyInstances"]), warm},
		{
			fmt.Sprintf("%.0f instances of the Application Gateway (as `GW_PRODUCTION` keeps them)", a["edgeInstances"]),
			a["edgeInstances"] * a["capacityUnitsPerInstance"] * hours * p["applicationGateway.capacityUnitHour"],
		},
		{"one private endpoint more, for another AI region", hours * p["privateLink.endpointHour"]},
		{"API Management, Developer (no SLA)", p["apiManagement.developerMonth"]},
		{"API Management, Basic v2", p["apiManagement.basicV2Month"]},
		{"API Management, Standard v2", p["apiManagement.standardV2Month"]},
		{"API Management, Premium", p["apiManagement.premiumMonth"]},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", i.name, dollars(i.price))
	}
	b.WriteString("| API Management's AI Gateway tier | not known here |\n")
}

// month is the bill of a month with so many requests; the free grant of Functions counts once.
func month(p, a map[string]float64, all templates, requests float64) (public, private float64) {
	probes := hours * 3600 / a["probeInterval"] * a["probingInstances"]
	sweeps := hours * 60 / a["sweepMinutes"]
	functions := func(calls float64) float64 { // calls of a second each, in addition to the requests
		seconds := calls + requests*a["secondsPerRequest"]/a["requestsAtATime"]
		return max(0, seconds*a["instanceGB"]-p["functions.gigabyteSecondsFree"])*p["functions.gigabyteSecond"] +
			max(0, calls+requests-p["functions.executionsFree"])/1e6*p["functions.millionExecutions"]
	}
	public, private = functions(sweeps), functions(sweeps+probes)
	for _, i := range idle(p, a, all) {
		if !strings.HasPrefix(i.name, "Functions") {
			public, private = public+i.public, private+i.private
		}
	}
	for _, i := range busy(p, a) {
		if !strings.HasPrefix(i.name, "Functions") {
			public, private = public+i.public*requests/1e6, private+i.private*requests/1e6
		}
	}
	return public, private
}

func write(b *strings.Builder, title string, items []item) {
	fmt.Fprintf(b, "| %s | public | private |\n|---|---:|---:|\n", title)
	total := item{name: "**together**"}
	for _, i := range items {
		fmt.Fprintf(b, "| %s | %s | %s |\n", i.name, dollars(i.public), dollars(i.private))
		total.public += i.public
		total.private += i.private
	}
	fmt.Fprintf(b, "| %s | **%s** | **%s** |\n", total.name, dollars(total.public), dollars(total.private))
}

func dollars(v float64) string {
	if v > 0 && v < 0.005 {
		return "< $0.01"
	}
	return fmt.Sprintf("$%.2f", v)
}

func checkCosts(root string, all templates) []Finding {
	want, err := costTables(root, all)
	if err != nil {
		return []Finding{{"infra/prices.json", 0, err.Error()}}
	}
	data, err := os.ReadFile(filepath.Join(root, "infra/README.md"))
	if err != nil || !strings.Contains(string(data), want) {
		return []Finding{{"infra/README.md", 0, "its costs are not those of infra/prices.json; run: go test ./handler/devstack/template -update"}}
	}
	return nil
}
