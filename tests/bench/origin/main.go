// An origin that behaves like S3 as a reader sees it: objects of any size, ranges, tags and conditions, a late first
// byte, one stream's limited rate, SlowDown on demand. It counts what it was asked, and takes any signature.
//
//	origin -port P
//	POST /_origin/set?shaped=1&slow=N&seed=S&crawl=P   shaping; N answers of SlowDown; P of 100 bodies come a byte a second;
//	                                           counters to zero; delays drawn from S on; shaped bodies under way are cut
//	GET  /_origin/stats                        the counters as JSON
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// What one stream of S3 gives: the first byte at 30 ms in the median and at 200 ms in the 99th percentile, lognormal, then 80 MB/s.
	medianDelay = 30 * time.Millisecond
	p99Delay    = 200 * time.Millisecond
	streamRate  = 80e6
	crawlRate   = 1
	modified    = "Mon, 01 Jan 2024 00:00:00 GMT"
)

type stats struct {
	Gets, Heads, Lists, Bytes, SlowDowns, NotModified, InFlight, MaxInFlight int64
}

var (
	mu     sync.Mutex
	now    stats
	shaped bool
	slow   int64
	crawl  int64
	delays = rand.New(rand.NewSource(1))
	epoch  int64 // bodies of an earlier one are cut
)

func count(f func()) { mu.Lock(); defer mu.Unlock(); f() }

// delay draws the time to the first byte.
func delay() (d time.Duration) {
	sigma := math.Log(float64(p99Delay)/float64(medianDelay)) / 2.3263
	count(func() { d = time.Duration(float64(medianDelay) * math.Exp(sigma*delays.NormFloat64())) })
	return d
}

// paced is a connection's writer at one stream's rate, measured from its first byte.
type paced struct {
	http.ResponseWriter
	epoch int64
	rate  float64
	began time.Time
	sent  float64
}

func (p *paced) Write(b []byte) (int, error) {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	var over bool
	if count(func() { over = epoch != p.epoch }); over {
		panic(http.ErrAbortHandler)
	}
	n, err := p.ResponseWriter.Write(b)
	p.sent += float64(n)
	time.Sleep(time.Until(p.began.Add(time.Duration(p.sent / p.rate * 1e9))))
	return n, err
}

// crawling sends a byte at a time.
type crawling struct{ paced }

func (c *crawling) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if _, err = c.paced.Write(b[n : n+1]); err == nil {
			n++
			err = http.NewResponseController(c.ResponseWriter).Flush()
		}
	}
	return n, err
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, code)
}

func list(w http.ResponseWriter, bucket string) {
	count(func() { now.Lists++ })
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
		`<Name>%s</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`, bucket)
}

// parseRange reads one range of bytes; false where S3 would ignore it.
func parseRange(header string, size int64) (first, end int64, ok bool) {
	a, b, dash := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !dash || !strings.HasPrefix(header, "bytes=") {
		return 0, size, false
	}
	first, errFirst := strconv.ParseInt(a, 10, 64)
	last, errLast := strconv.ParseInt(b, 10, 64)
	switch {
	case a == "" && errLast == nil:
		return max(0, size-last), size, true
	case errFirst != nil || (b != "" && errLast != nil):
		return 0, size, false
	case b == "":
		return first, size, true
	}
	return first, min(last+1, size), true
}

func object(w http.ResponseWriter, r *http.Request, key string) {
	size, ok := sizeOf(key)
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	var refused, shape, crawls bool
	count(func() {
		// Every so many-th, and not at random: each run has as many.
		crawls = now.Gets*crawl/100 != (now.Gets+1)*crawl/100
		if r.Method == http.MethodHead {
			now.Heads++
		} else {
			now.Gets++
		}
		if shape = shaped; slow > 0 {
			slow--
			now.SlowDowns++
			refused = true
		}
	})
	if refused {
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	if shape {
		time.Sleep(delay())
	}
	tag := fmt.Sprintf(`"%016x%016x"`, hash(key), mix(hash(key)))
	header := w.Header()
	header["ETag"] = []string{tag}
	header.Set("Last-Modified", modified)
	header.Set("Accept-Ranges", "bytes")
	header.Set("Content-Type", "application/octet-stream")
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && match != tag {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if none := r.Header.Get("If-None-Match"); none == tag || none == "*" {
		count(func() { now.NotModified++ })
		w.WriteHeader(http.StatusNotModified)
		return
	}
	first, end, partial := parseRange(r.Header.Get("Range"), size)
	if partial && first >= size {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		return
	}
	header.Set("Content-Length", strconv.FormatInt(end-first, 10))
	if partial {
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, end-1, size))
		w.WriteHeader(http.StatusPartialContent)
	}
	if r.Method == http.MethodHead {
		return
	}
	var started int64
	count(func() { started = epoch; now.InFlight++; now.MaxInFlight = max(now.MaxInFlight, now.InFlight) })
	var sent int64
	defer count(func() {
		now.InFlight--
		if epoch == started {
			now.Bytes += sent
		}
	})
	if crawls {
		sent, _ = writeBody(&crawling{paced{ResponseWriter: w, epoch: started, rate: crawlRate}}, key, first, end, 64<<10)
	} else if shape {
		sent, _ = writeBody(&paced{ResponseWriter: w, epoch: started, rate: streamRate}, key, first, end, 64<<10)
	} else {
		sent, _ = writeBody(w, key, first, end, mib)
	}
}

func set(w http.ResponseWriter, r *http.Request) {
	number := func(name string) int64 { n, _ := strconv.ParseInt(r.FormValue(name), 10, 64); return n }
	count(func() {
		shaped, slow, crawl = number("shaped") != 0, number("slow"), number("crawl")
		delays = rand.New(rand.NewSource(number("seed")))
		epoch++
		now = stats{InFlight: now.InFlight, MaxInFlight: now.InFlight}
	})
}

func serve(w http.ResponseWriter, r *http.Request) {
	switch bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/_origin/stats":
		var copied stats
		count(func() { copied = now })
		_ = json.NewEncoder(w).Encode(copied)
	case r.URL.Path == "/_origin/set":
		set(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	case key == "" && r.Method == http.MethodGet:
		list(w, bucket)
	case key != "":
		object(w, r, key)
	}
}

func main() {
	port := flag.Int("port", 0, "port on loopback")
	flag.Parse()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}
