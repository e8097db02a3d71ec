package credentials

import "errors"

var errBER = errors.New("malformed BER")

// derOf rewrites BER as DER as far as PKCS#12 files need it: values of indefinite length, as NSS and some keystores
// write them, get their length, and octet strings that come in pieces are joined (X.690, 8.1.3.6 and 8.7.3).
func derOf(ber []byte) ([]byte, error) {
	der, rest, err := derValue(ber, 0)
	if err == nil && len(rest) > 0 {
		err = errBER
	}
	return der, err
}

// maxDepth bounds how deeply values are nested.
const maxDepth = 64

const (
	berConstructed = 0x20
	berOctetString = 0x04
)

func derValue(ber []byte, depth int) (der, rest []byte, err error) {
	if len(ber) < 2 || depth > maxDepth {
		return nil, nil, errBER
	}
	head := 1
	if ber[0]&0x1f == 0x1f { // a tag of several bytes
		for head < len(ber) && ber[head]&0x80 != 0 {
			head++
		}
		head++
	}
	if head >= len(ber) {
		return nil, nil, errBER
	}
	tag := ber[:head]
	length, content, indefinite, err := berLength(ber[head:])
	if err != nil {
		return nil, nil, err
	}
	if !indefinite {
		content, rest = content[:length], content[length:]
	}
	if tag[0]&berConstructed == 0 {
		if indefinite {
			return nil, nil, errBER
		}
		return appendValue(nil, tag, content), rest, nil
	}
	var body, tags []byte // tags are the first bytes of the values in it
	for {
		if indefinite && len(content) >= 2 && content[0] == 0 && content[1] == 0 {
			rest = content[2:]
			break
		}
		if !indefinite && len(content) == 0 {
			break
		}
		var part []byte
		if part, content, err = derValue(content, depth+1); err != nil {
			return nil, nil, err
		}
		switch tags = append(tags, part[0]); {
		case tag[0] == berOctetString|berConstructed: // a piece of the string: its bytes alone
			if part[0] != berOctetString {
				return nil, nil, errBER
			}
			size, bytes, _, err := berLength(part[1:])
			if err != nil {
				return nil, nil, err
			}
			part = bytes[:size]
		case string(tags) == encryptedContent:
			if part, err = implicitString(part); err != nil {
				return nil, nil, err
			}
		}
		body = append(body, part...)
	}
	if tag[0] == berOctetString|berConstructed {
		tag = []byte{berOctetString}
	}
	return appendValue(nil, tag, body), rest, nil
}

// encryptedContent are the tags of an EncryptedContentInfo (RFC 2315, 10.1): a type, an algorithm, and the content as
// [0], which takes the place of an octet string's own tag and may be in pieces, too.
const encryptedContent = "\x06\x30\xa0"

// implicitString joins the pieces of a string that is tagged [0].
func implicitString(value []byte) ([]byte, error) {
	size, content, _, err := berLength(value[1:]) // the tag is one byte
	if err != nil {
		return nil, err
	}
	var joined []byte
	for content = content[:size]; len(content) > 0; {
		if content[0] != berOctetString || len(content) < 2 {
			return nil, errBER
		}
		n, bytes, _, err := berLength(content[1:])
		if err != nil {
			return nil, err
		}
		joined = append(joined, bytes[:n]...)
		content = bytes[n:]
	}
	return appendValue(nil, []byte{0x80}, joined), nil
}

// berLength reads a length; content is what follows it, of which there is at least as much.
func berLength(b []byte) (length int, content []byte, indefinite bool, err error) {
	switch first := b[0]; {
	case first == 0x80:
		return 0, b[1:], true, nil
	case first < 0x80:
		length, content = int(first), b[1:]
	default:
		n := int(first & 0x7f)
		if n > 4 || len(b) < 1+n {
			return 0, nil, false, errBER
		}
		for _, c := range b[1 : 1+n] {
			length = length<<8 | int(c)
		}
		content = b[1+n:]
	}
	if length < 0 || length > len(content) {
		return 0, nil, false, errBER
	}
	return length, content, false, nil
}

func appendValue(dst, tag, content []byte) []byte {
	dst = append(dst, tag...)
	switch n := len(content); {
	case n < 0x80:
		dst = append(dst, byte(n))
	case n < 1<<8:
		dst = append(dst, 0x81, byte(n))
	case n < 1<<16:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		dst = append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, content...)
}
