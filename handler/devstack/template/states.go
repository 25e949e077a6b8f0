package template

import (
	"fmt"
	"slices"
	"strings"
)

// state is what decides the conditions of the templates: whether the private network exists, and whether public
// endpoints are closed.
type state struct {
	name            string
	private, closed bool
}

// The states of a gateway. A provision leads from one to another; opening is private with GW_KEEP_OPEN.
var (
	public  = state{"public", false, false}
	opening = state{"private with GW_KEEP_OPEN", true, false}
	private = state{"private", true, true}
)

// ways are the provisions that a running gateway bears. From public to private at once is none of them.
var ways = [][2]state{{public, opening}, {opening, private}, {private, opening}, {opening, public}, {private, public}}

// order is main.bicep's modules, and which of them wait for which.
type order struct {
	all   templates
	main  *file
	names []string // each after those that it waits for
}

func newOrder(all templates) *order {
	o := &order{all: all, main: all["main.bicep"]}
	var visit func(d *declaration)
	visit = func(d *declaration) {
		if slices.Contains(o.names, d.Name) {
			return
		}
		for i := range o.main.Declarations {
			if other := &o.main.Declarations[i]; other.Kind == "module" && other != d && refers(d.Value, other.Name) {
				visit(other)
			}
		}
		o.names = append(o.names, d.Name)
	}
	for i := range o.main.Declarations {
		if o.main.Declarations[i].Kind == "module" {
			visit(&o.main.Declarations[i])
		}
	}
	return o
}

// waits says whether one declaration of a file waits for another, directly or not.
func (f *file) waits(name, other string) bool {
	d := f.find("module", name)
	if d == nil {
		return false
	}
	for i := range f.Declarations {
		if next := &f.Declarations[i]; next.Kind == "module" && next.Name != name && refers(d.Value, next.Name) &&
			(next.Name == other || f.waits(next.Name, other)) {
			return true
		}
	}
	return false
}

// link is a call of link.bicep: in which module of main it stands, and for which group.
type link struct {
	f     *file
	d     *declaration
	owner string // the module of main, or the call itself
	group string
}

func (o *order) links() (list []link) {
	for _, owner := range o.names {
		call := o.main.find("module", owner)
		if call.Target == "link.bicep" {
			list = append(list, link{o.main, call, owner, call.body().at("params", "groupId").text()})
			continue
		}
		f := o.all[call.Target]
		for i := range f.Declarations {
			if d := &f.Declarations[i]; d.Kind == "module" && d.Target == "link.bicep" {
				list = append(list, link{f, d, owner, d.body().at("params", "groupId").text()})
			}
		}
	}
	return list
}

func (o *order) ordered(a, b link) bool {
	if a.owner == b.owner {
		return a.f.waits(a.d.Name, b.d.Name) || b.f.waits(b.d.Name, a.d.Name)
	}
	return o.main.waits(a.owner, b.owner) || o.main.waits(b.owner, a.owner)
}

// checkOrder: two private endpoints in one subnet at a time fail at random, and the app joins the network when all but
// its own stand (B20).
func checkOrder(all templates) (found []Finding) {
	o := newOrder(all)
	links := o.links()
	for i, a := range links {
		for _, b := range links[:i] {
			if !o.ordered(a, b) {
				found = append(found, Finding{
					a.f.path, a.d.Line, fmt.Sprintf("%s and %s must be made one after the other", b.d.Name, a.d.Name),
				})
			}
		}
		if a.owner != "app" && !o.main.waits("app", a.owner) {
			found = append(found, Finding{a.f.path, a.d.Line, a.d.Name + " must stand before app, which joins the network"})
		}
		if strings.Contains(a.d.Value.text(), "closed") {
			found = append(found, Finding{a.f.path, a.d.Line, a.d.Name + " must stand before the public endpoint closes, not with it"})
		}
		if call := o.main.find("module", a.owner); call.Value.Kind == "for" && !slices.Contains(call.Decorators, "batchSize(1)") {
			found = append(found, Finding{
				o.main.path, call.Line, call.Name + " needs @batchSize(1): its private endpoints are in one subnet",
			})
		}
	}
	return append(found, checkWays(o, links, ways)...)
}

// moment is a state of each module in the middle of a provision.
type moment struct {
	doors, links map[string]state // by module of main
}

// checkWays walks through each provision, module by module, its resources before its endpoints. At every moment the app
// must reach every service, by the public endpoint or by a private one, and callers must reach the app.
func checkWays(o *order, links []link, ways [][2]state) (found []Finding) {
	for _, way := range ways {
		now := moment{doors: map[string]state{}, links: map[string]state{}}
		for _, name := range o.names {
			now.doors[name], now.links[name] = way[0], way[0]
		}
		for _, name := range o.names {
			now.doors[name] = way[1]
			found = append(found, o.unreachable(now, links, way)...)
			now.links[name] = way[1]
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(found)
}

func (o *order) unreachable(now moment, links []link, way [2]state) (found []Finding) {
	add := func(f *file, d *declaration, what string) {
		found = append(found, Finding{
			f.path, d.lineOf(), fmt.Sprintf("%s: %s while %s becomes %s (B20)", d.Name, what, way[0].name, way[1].name),
		})
	}
	app := o.all["app.bicep"]
	site := app.find("resource", "site")
	joined := site.body().at("properties", "virtualNetworkSubnetId").in(now.doors["app"]).text() == "appSubnetId"
	for _, owner := range o.names {
		f := o.all[o.main.find("module", owner).Target]
		for i := range f.Declarations {
			d := &f.Declarations[i]
			door, ok := doors[d.resourceType()]
			if d.Kind != "resource" || !ok || d.Existing || len(door.closes) == 0 {
				continue
			}
			open := d.body().at(strings.Split(door.closes[0], ".")...).in(now.doors[owner]).text() == "Enabled"
			if acls := d.body().at("properties", "networkAcls", "defaultAction"); acls != nil { // a second lock of the same door
				open = open && acls.in(now.doors[owner]).text() == "Allow"
			}
			linked := slices.ContainsFunc(links, func(l link) bool {
				stands := now.links[l.owner].private || way[0].private // what was made stays
				return stands && slices.Contains(door.groups, l.group)
			})
			if !open && (!joined || !linked) || joined && !linked {
				add(f, d, "the app does not reach it")
			}
		}
	}
	admits := site.body().at("properties", "siteConfig", "ipSecurityRestrictionsDefaultAction").in(now.doors["app"]).text() == "Allow"
	if edge := o.main.find("module", "edge"); !admits && !way[0].private {
		add(o.main, edge, "it does not stand yet, and the app is closed")
	}
	if fronted := app.find("variable", "appSettings").body().prop("GATEWAY_FRONTED"); way[1].closed != (fronted.in(way[1]).text() == "true") {
		add(app, app.find("variable", "appSettings"), "GATEWAY_FRONTED must be true where only the edge reaches the app")
	}
	return found
}

// checkSteps: the template refuses what the ways do not contain.
func checkSteps(main *file) (found []Finding) {
	for name, want := range map[string]string{
		"abrupt": "isPrivate && networkBefore == 'public' && !keepOpen",
		"closed": "abrupt ? fail('public becomes private in two steps: first with GW_KEEP_OPEN true, then with false') : " +
			"isPrivate && !keepOpen",
	} {
		if d := main.find("variable", name); d == nil || d.Value.text() != want {
			found = append(found, Finding{main.path, d.lineOf(), name + " must be " + want + " (B20)"})
		}
	}
	for _, d := range main.Declarations {
		if p := d.body().prop("params").prop("closed"); d.Kind == "module" && p != nil && p.text() != "closed" {
			found = append(found, Finding{main.path, p.Line, d.Name + ": closed must be closed"})
		}
	}
	if d := main.find("output", "GW_NETWORK_BEFORE"); d == nil || d.Value.text() != "network" {
		found = append(found, Finding{
			main.path, d.lineOf(), "GW_NETWORK_BEFORE must be network: the next provision asks what this one made (B20)",
		})
	}
	return found
}
