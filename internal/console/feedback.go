package console

import (
	"context"

	"github.com/lhspn/lhspn/internal/push"
)

// feedbackView is the passes of the apps that are shown.
type feedbackView struct {
	Trouble *trouble
	Choose  bool
	Apps    []passesView
}

type passesView struct {
	App string
	Passes
	Items []checkedView
}

type checkedView struct {
	push.CheckedInvalidation
	Ref string
	Why string
}

func (k *Console) loadFeedback(ctx context.Context, v *view) {
	f := &feedbackView{Choose: v.scope.tooMany}
	v.Feedback = f
	for _, app := range v.scope.apps {
		p, err := k.Feedback.Passes(ctx, app)
		if err != nil {
			f.Trouble = k.trouble(err)
			return
		}
		shown := passesView{App: app, Passes: p}
		for _, c := range p.Checked {
			shown.Items = append(shown.Items, checkedView{c, k.refs.of(c.Token), sources[c.Source]})
		}
		f.Apps = append(f.Apps, shown)
	}
}

// replicasView is who shares the database.
type replicasView struct {
	Trouble *trouble
	List    []Replica
	Free    []uint8
	Cells   []cell
}

// cell is a shard, with the number of its owner in the list; -1: nobody.
type cell struct {
	Shard uint8
	Owner int
}

// Class is the colour of the owner.
func (c cell) Class() string {
	if c.Owner < 0 {
		return "free"
	}
	return "owner" + number(c.Owner%ownerColours)
}

const ownerColours = 8

func (k *Console) loadReplicas(ctx context.Context, v *view) {
	r := &replicasView{}
	v.Replicas = r
	all, free, err := k.Replicas.Replicas(ctx)
	if err != nil {
		r.Trouble = k.trouble(err)
		return
	}
	r.List, r.Free = all, free
	owners := map[uint8]int{}
	for _, shard := range free {
		owners[shard] = -1
	}
	for i, replica := range all {
		for _, shard := range replica.Shards {
			owners[shard] = i
		}
	}
	for shard := range len(owners) {
		r.Cells = append(r.Cells, cell{uint8(shard), owners[uint8(shard)]})
	}
}

// OwnerColour is the colour of the replica with that number in the list.
func (*view) OwnerColour(i int) int { return i % ownerColours }
