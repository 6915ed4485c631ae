// A small HTTP client for pods: Debian's static busybox crashes now and then while it resolves a name.
//
//	client get [flags] URL       one request; the body on stdout; exit 22 from status 400 on, 7 when there is no answer
//	client load [flags] URL...   readers until -for is over or SIGTERM; counts as one line of JSON; exit 1 if any failed
//	client stay                  nothing, until SIGTERM: a pod to run the others in
//	client end                   SIGTERM to the container's first process: its log ends with the counts, and stays
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	command, args := "", []string(nil)
	if len(os.Args) > 1 {
		command, args = os.Args[1], os.Args[2:]
	}
	switch command {
	case "get":
		os.Exit(get(stop, args))
	case "load":
		os.Exit(load(stop, args))
	case "stay":
		<-stop.Done()
	case "end":
		if err := syscall.Kill(1, syscall.SIGTERM); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "client get|load|stay|end")
		os.Exit(2)
	}
}

// headers are given as curl takes them: -H "Name: value", any number of times.
type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return fmt.Errorf("%q is not a header", line)
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}

// newClient opens a connection per request when fresh: a Service spreads connections, not requests.
func newClient(timeout time.Duration, fresh bool) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: fresh, MaxIdleConnsPerHost: 64}}
}

func get(stop context.Context, args []string) int {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	method := flags.String("X", "GET", "method")
	data := flags.String("d", "", "body to send")
	upload := flags.String("upload", "", "NAME=TEXT, sent as a file of a form, field `files`")
	include := flags.Bool("i", false, "print status and headers first")
	timeout := flags.Duration("timeout", 10*time.Second, "for the whole request")
	header := headers{}
	flags.Var(header, "H", "header to send")
	_ = flags.Parse(args)

	var body io.Reader = strings.NewReader(*data)
	if name, text, found := strings.Cut(*upload, "="); found {
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		part, _ := writer.CreateFormFile("files", name) // a buffer refuses nothing
		_, _ = part.Write([]byte(text))
		_ = writer.Close()
		header["Content-Type"] = []string{writer.FormDataContentType()}
		*method, body = "POST", &form
	}
	request, err := http.NewRequestWithContext(stop, *method, flags.Arg(0), body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	request.Header = http.Header(header)
	response, err := newClient(*timeout, true).Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 7
	}
	defer response.Body.Close()
	if *include {
		fmt.Println(response.Proto, response.Status)
		_ = response.Header.Write(os.Stdout)
		fmt.Println()
	}
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 18
	}
	if response.StatusCode >= 400 {
		fmt.Fprintln(os.Stderr, response.Status)
		return 22
	}
	return 0
}

// report is what load prints at its end.
type report struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Bytes    int64          `json:"bytes"`
	SlowestM int64          `json:"slowest_ms"`
	Sources  map[string]int `json:"sources"`  // by x-falcon-cache
	Nodes    map[string]int `json:"nodes"`    // by x-falcon-node
	Failures []string       `json:"failures"` // the first twenty, in words
}

func load(stop context.Context, args []string) int {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	readers := flags.Int("c", 4, "readers at a time")
	duration := flags.Duration("for", 0, "how long; 0: until SIGTERM")
	timeout := flags.Duration("timeout", 10*time.Second, "for one request")
	fresh := flags.Bool("fresh", false, "a new connection for each request")
	pause := flags.Duration("pause", 5*time.Millisecond, "between two requests of a reader: without one, readers take the CPU from all that they share a machine with")
	sum := flags.String("sha256", "", "what each body's SHA-256 has to be")
	_ = flags.Parse(args)
	if *duration > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, *duration)
		defer cancel()
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "no URL")
		return 2
	}

	client := newClient(*timeout, *fresh)
	total := report{Sources: map[string]int{}, Nodes: map[string]int{}, Failures: []string{}}
	var lock sync.Mutex
	var running sync.WaitGroup
	for reader := range *readers {
		running.Add(1)
		go func() {
			defer running.Done()
			for turn := reader; stop.Err() == nil; turn++ {
				start := time.Now()
				// A request under way is always finished: only an answer counts, or the lack of one.
				response, length, err := fetch(client, flags.Arg(turn%flags.NArg()), *sum)
				lock.Lock()
				total.Requests++
				total.Bytes += length
				total.SlowestM = max(total.SlowestM, time.Since(start).Milliseconds())
				if err != nil {
					total.Failed++
					if len(total.Failures) < 20 {
						total.Failures = append(total.Failures, start.UTC().Format(time.RFC3339Nano)+" "+err.Error())
					}
				} else {
					total.Sources[response.Get("x-falcon-cache")]++
					total.Nodes[response.Get("x-falcon-node")]++
				}
				lock.Unlock()
				time.Sleep(*pause)
			}
		}()
	}
	running.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(total)
	if total.Failed > 0 {
		return 1
	}
	return 0
}

func fetch(client *http.Client, url, sum string) (http.Header, int64, error) {
	response, err := client.Get(url)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	hash := sha256.New()
	length, err := io.Copy(hash, response.Body)
	switch {
	case err != nil:
		return nil, length, err
	case response.StatusCode != http.StatusOK:
		return nil, length, fmt.Errorf("%s: %s", url, response.Status)
	case sum != "" && hex.EncodeToString(hash.Sum(nil)) != sum:
		return nil, length, fmt.Errorf("%s: other bytes than expected", url)
	}
	return response.Header, length, nil
}
