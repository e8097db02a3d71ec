package api

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// Of the answer to a single notification a repetition of the request needs four values, which take a quarter of its
// length. So it is kept in a form of its own, which no JSON begins as; other answers are kept as they are.

const keptForm = 1

var keptStates = [...]push.State{push.StateQueued, push.StateScheduled, push.StateDone}

// kept is the answer as it is kept with an idempotency key; nil where that form has no room for it.
func (b *acceptedBody) kept() []byte {
	id, err := uuid.Parse(b.ID)
	recipients := 0 // for null
	if b.Recipients != nil {
		recipients = 1 + *b.Recipients
	}
	for i, state := range keptStates {
		if err == nil && string(state) == b.State {
			k := append(append(make([]byte, 0, 32), keptForm, byte(i)), id[:]...)
			return binary.AppendUvarint(binary.AppendVarint(k, b.CreatedAt.UnixMicro()), uint64(recipients))
		}
	}
	return nil
}

// answerOf is the answer that was kept.
func answerOf(kept []byte) []byte {
	if len(kept) < 2+16 || kept[0] != keptForm || int(kept[1]) >= len(keptStates) {
		return kept
	}
	created, n := binary.Varint(kept[18:])
	recipients, _ := binary.Uvarint(kept[18+max(0, n):])
	b := acceptedBody{ID: uuid.UUID(kept[2:18]).String(), State: string(keptStates[kept[1]]),
		CreatedAt: time.UnixMicro(created).UTC()}
	if recipients > 0 {
		count := int(recipients) - 1
		b.Recipients = &count
	}
	answer, _ := json.Marshal(&b) // it has a JSON form
	return append(answer, '\n')
}
