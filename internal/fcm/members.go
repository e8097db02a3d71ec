package fcm

import (
	"bytes"
	"encoding/json"

	"github.com/lhspn/lhspn/internal/push"
)

// member is one of an object. The value is compact JSON.
type member struct {
	name  string
	value push.JSON
}

// members is an object in the order in which it is written.
type members []member

// set gives a member its value, in its place where it is there already; nil removes it.
func (m *members) set(name string, value push.JSON) {
	for i := range *m {
		if (*m)[i].name == name {
			if value == nil {
				*m = append((*m)[:i], (*m)[i+1:]...)
			} else {
				(*m)[i].value = value
			}
			return
		}
	}
	if value != nil {
		*m = append(*m, member{name, value})
	}
}

// manyMembers are members whose number only their size bounds, which is known when all of them are there.
type manyMembers struct {
	members
	at map[string]int // where each is, once they are more than few
}

// few are found as fast without an index.
const few = 16

// set is that of members, however many they are.
func (m *manyMembers) set(name string, value push.JSON) {
	if len(m.members) < few || value == nil {
		m.members.set(name, value)
		m.at = nil
		return
	}
	if m.at == nil {
		m.at = make(map[string]int, 2*few)
		for i := range m.members {
			m.at[m.members[i].name] = i
		}
	}
	if i, there := m.at[name]; there {
		m.members[i].value = value
		return
	}
	m.at[name] = len(m.members)
	m.members = append(m.members, member{name, value})
}

func (m members) get(name string) push.JSON {
	for i := range m {
		if m[i].name == name {
			return m[i].value
		}
	}
	return nil
}

// appendTo appends what is between the object's braces.
func (m members) appendTo(b []byte) []byte {
	for i, member := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, quote(member.name)...), ':'), member.value...)
	}
	return b
}

// appendObject appends a comma and the object under its name, where it has members.
func (m members) appendObject(b []byte, name string) []byte {
	if len(m) == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":{`...)
	return append(m.appendTo(b), '}')
}

func (m members) size() (n int) {
	for _, member := range m {
		n += len(member.name) + valueSize(member.value)
	}
	return n
}

func mapSize(object push.JSON) (n int) {
	for key, v := range object.Members() {
		n += len(key.Text()) + valueSize(v)
	}
	return n
}

func valueSize(v push.JSON) int {
	if v.IsString() {
		return len(v.Text())
	}
	return len(v)
}

func compact(v push.JSON) push.JSON {
	if v == nil {
		return nil
	}
	return v.AppendCompact(nil)
}

// quote is a text as a JSON string. What only HTML needs escaped stays as it is: each byte counts.
func quote(s string) push.JSON {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string has a JSON form
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
