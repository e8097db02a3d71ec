package main

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"slices"
)

// shrink makes a screenshot of a page small: its colours are few, but for the edges of letters.
func shrink(text []byte) ([]byte, error) {
	picture, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	const bits = 4 // of each colour, by which similar ones are counted as one
	type bucket struct{ n, r, g, b, key int }
	counts := map[int]*bucket{}
	bounds := picture.Bounds()
	keyOf := func(c color.RGBA) int {
		return int(c.R)>>(8-bits)<<(2*bits) | int(c.G)>>(8-bits)<<bits | int(c.B)>>(8-bits)
	}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA) }
	exact := map[color.RGBA]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			exact[c]++
			k := keyOf(c)
			if counts[k] == nil {
				counts[k] = &bucket{key: k}
			}
			b := counts[k]
			b.n, b.r, b.g, b.b = b.n+1, b.r+int(c.R), b.g+int(c.G), b.b+int(c.B)
		}
	}
	// The most frequent colours as they are, and the means of what is left.
	var palette color.Palette
	frequent := make([]color.RGBA, 0, len(exact))
	for c := range exact {
		frequent = append(frequent, c)
	}
	slices.SortFunc(frequent, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(exact[b], exact[a]), cmp.Compare(keyOf(a), keyOf(b)))
	})
	for _, c := range frequent[:min(len(frequent), 32)] {
		palette = append(palette, c)
	}
	buckets := make([]*bucket, 0, len(counts))
	for _, b := range counts {
		buckets = append(buckets, b)
	}
	slices.SortFunc(buckets, func(a, b *bucket) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.key, b.key)) })
	for _, b := range buckets[:min(len(buckets), 96)] {
		palette = append(palette, color.RGBA{uint8(b.r / b.n), uint8(b.g / b.n), uint8(b.b / b.n), 255})
	}
	small := image.NewPaletted(bounds, palette)
	nearest := map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, known := nearest[c]
			if !known {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, small)
	return out.Bytes(), err
}
