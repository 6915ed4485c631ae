module falcon.bench/groupcache

go 1.23

require github.com/groupcache/groupcache-go/v3 v3.2.0

require (
	github.com/segmentio/fasthash v1.0.3 // indirect
	golang.org/x/net v0.22.0 // indirect
	google.golang.org/protobuf v1.28.1 // indirect
)
