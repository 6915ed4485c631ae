package main

import (
	"encoding/binary"
	"io"
	"strconv"
	"strings"
)

// Bodies come from the key alone, so any client can check any byte: `SIZE/NAME` is SIZE bytes, and its MiB number b is
// 1 MiB of a fixed table from the offset mix(fnv1a(key) + b). Slices of one table cost the origin no work, and a block
// of another key, or in another place, differs. load.c has the same three functions.
const mib = 1 << 20

var table = func() []byte {
	t := make([]byte, 2*mib)
	for i := 0; i < mib/8; i++ {
		binary.LittleEndian.PutUint64(t[8*i:], mix(uint64(i)))
	}
	copy(t[mib:], t[:mib])
	return t
}()

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func hash(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(key); i++ {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h
}

// sizeOf says how large the object is; false where there is none of that name.
func sizeOf(key string) (int64, bool) {
	digits, _, ok := strings.Cut(key, "/")
	size, err := strconv.ParseInt(digits, 10, 64)
	return size, ok && err == nil && size >= 0
}

// writeBody writes the object's bytes from first to the one before end, in pieces of at most most.
func writeBody(w io.Writer, key string, first, end, most int64) (written int64, err error) {
	seed := hash(key)
	for first < end {
		block, within := first/mib, first%mib
		n := min(mib-within, end-first, most)
		from := int64(mix(seed+uint64(block))%mib) + within
		k, err := w.Write(table[from : from+n])
		written += int64(k)
		if err != nil {
			return written, err
		}
		first += n
	}
	return written, nil
}
