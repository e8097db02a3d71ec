package api

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// mayGrow lets answers have fields that are not in the document yet. Requests have none: what is unknown is refused. A
// schema of both is there twice.
func (d document) mayGrow() {
	requests, answers := map[string]bool{}, map[string]bool{}
	var answered []*huma.MediaType
	for _, path := range d.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete} {
			if op == nil {
				continue
			}
			if op.RequestBody != nil {
				for _, media := range op.RequestBody.Content {
					d.reach(media.Schema, requests)
				}
			}
			for _, response := range op.Responses {
				for _, media := range response.Content {
					answered = append(answered, media)
					d.reach(media.Schema, answers)
				}
			}
		}
	}
	schemas := d.Components.Schemas.Map()
	shown := map[string]string{} // the name of the other one
	for name := range answers {
		if requests[name] {
			shown[name] = "Shown" + name
		}
	}
	for name := range answers {
		if other, is := shown[name]; is {
			schemas[other] = asShown(schemas[name], shown)
		} else {
			schemas[name] = asShown(schemas[name], shown)
		}
	}
	for _, media := range answered {
		media.Schema = asShown(media.Schema, shown)
	}
}

// asShown is the schema as answers have it: open, and of others that are.
func asShown(s *huma.Schema, names map[string]string) *huma.Schema {
	if s == nil {
		return nil
	}
	open := *s
	if other, is := names[strings.TrimPrefix(s.Ref, schemaRefs)]; is && s.Ref != "" {
		open.Ref = schemaRefs + other
	}
	if s.AdditionalProperties == false {
		open.AdditionalProperties = nil
	}
	if of, is := s.AdditionalProperties.(*huma.Schema); is {
		open.AdditionalProperties = asShown(of, names)
	}
	if line, is := s.Extensions[lineSchema].(map[string]string); is {
		of := asShown(&huma.Schema{Ref: line["$ref"]}, names)
		open.Extensions = map[string]any{lineSchema: map[string]string{"$ref": of.Ref}}
	}
	open.Items = asShown(s.Items, names)
	open.AnyOf, open.Not = nil, nil
	for _, one := range s.AnyOf {
		open.AnyOf = append(open.AnyOf, asShown(one, names))
	}
	if s.Properties != nil {
		open.Properties = map[string]*huma.Schema{}
		for name, property := range s.Properties {
			open.Properties[name] = asShown(property, names)
		}
	}
	return &open
}

// reach notes the names of all schemas that are part of one.
func (d document) reach(s *huma.Schema, seen map[string]bool) {
	if s == nil {
		return
	}
	ref := s.Ref
	if line, is := s.Extensions[lineSchema].(map[string]string); is {
		ref = line["$ref"]
	}
	if ref != "" {
		name := ref[strings.LastIndex(ref, "/")+1:]
		if !seen[name] {
			seen[name] = true
			d.reach(d.Components.Schemas.Map()[name], seen)
		}
		return
	}
	d.reach(s.Items, seen)
	for _, one := range s.AnyOf {
		d.reach(one, seen)
	}
	if of, is := s.AdditionalProperties.(*huma.Schema); is {
		d.reach(of, seen)
	}
	for _, property := range s.Properties {
		d.reach(property, seen)
	}
}
