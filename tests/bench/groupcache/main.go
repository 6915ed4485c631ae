// The least server on groupcache that answers GET /bucket/KEY: whole objects, read from the origin once per ring, kept in
// memory, and asked of their owner over groupcache's own transport. Its experts' choices: values are handed over without a
// copy (ByteView), no log on the request's path, idle connections kept to origin and peers.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	groupcache "github.com/groupcache/groupcache-go/v3"
	"github.com/groupcache/groupcache-go/v3/transport"
	"github.com/groupcache/groupcache-go/v3/transport/peer"
)

func main() {
	self := flag.String("self", "127.0.0.1:8080", "where this node listens")
	nodes := flag.String("peers", "", "all nodes, this one included, comma separated; none is a node alone")
	origin := flag.String("origin", "", "URL that keys are appended to")
	megabytes := flag.Int64("cache-size", 512, "MB for main and hot cache together")
	flag.Parse()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, ReadBufferSize: 64 << 10}}
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	over := transport.NewHttpTransport(transport.HttpTransportOptions{Client: client, Logger: silent})
	instance := groupcache.New(groupcache.Options{Transport: over, Logger: silent})

	var ring []peer.Info
	for _, address := range strings.Split(*nodes, ",") {
		if address != "" {
			ring = append(ring, peer.Info{Address: address, IsSelf: address == *self})
		}
	}
	if len(ring) > 1 {
		if err := instance.SetPeers(context.Background(), ring); err != nil {
			log.Fatal(err)
		}
	}

	load := func(_ context.Context, key string, dest transport.Sink) error {
		// Not the first caller's context: who started a load may leave, the others wait for it.
		answer, err := client.Get(*origin + key)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("origin: %s", answer.Status)
		}
		body := make([]byte, answer.ContentLength)
		if _, err := io.ReadFull(answer.Body, body); err != nil {
			return err
		}
		return dest.SetBytes(body, time.Now().Add(time.Hour))
	}
	group, err := instance.NewGroup("objects", *megabytes<<20, groupcache.GetterFunc(load))
	if err != nil {
		log.Fatal(err)
	}

	http.Handle("/_groupcache/", over)
	http.HandleFunc("/bucket/", func(w http.ResponseWriter, r *http.Request) {
		var value transport.ByteView
		if err := group.Get(r.Context(), strings.TrimPrefix(r.URL.Path, "/bucket/"), transport.ByteViewSink(&value)); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if r.Header.Get("Range") != "" {
			http.ServeContent(w, r, "", time.Time{}, value.Reader())
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(value.Len()))
		_, _ = value.WriteTo(w)
	})
	log.Fatal(http.ListenAndServe(*self, nil))
}
