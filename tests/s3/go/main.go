// Stores, reads, lists and deletes through an S3 endpoint with the AWS SDK for Go, of which nothing is set but the endpoint.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const part = 5 << 20

type suite struct {
	client *s3.Client
	bucket string
	prefix string
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: go ENDPOINT BUCKET KEY-ID SECRET")
		os.Exit(2)
	}
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(os.Args[1]),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(os.Args[3], os.Args[4], ""),
	})
	s := suite{client, os.Args[2], fmt.Sprintf("go-%08x/", rand.Uint32())}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"put and get", s.putAndGet},
		{"range", s.ranges},
		{"overwrite", s.overwrite},
		{"list", s.list},
		{"multipart of three parts", s.multipart},
		{"uploader and downloader", s.managed},
		{"copy", s.copy},
		{"delete", s.delete},
	}
	failed := 0
	for _, step := range steps {
		if err := step.run(context.Background()); err != nil {
			fmt.Printf("FAIL %s: %v\n", step.name, err)
			failed++
		} else {
			fmt.Printf("ok %s\n", step.name)
		}
	}
	fmt.Printf("%d passed, %d failed, 0 skipped\n", len(steps)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// content is as many bytes as wanted, the same for the same seed.
func content(size int, seed int64) []byte {
	data := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(data)
	return data
}

func same(got, wanted []byte) error {
	if sha256.Sum256(got) != sha256.Sum256(wanted) {
		return fmt.Errorf("other bytes: %d, wanted %d", len(got), len(wanted))
	}
	return nil
}

func (s suite) key(name string) *string { return aws.String(s.prefix + name) }

func (s suite) put(ctx context.Context, name string, data []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.key(name), Body: bytes.NewReader(data),
		ContentType: aws.String("text/css"), Metadata: map[string]string{"made": "by go"},
	})
	return err
}

func (s suite) get(ctx context.Context, name, want string) ([]byte, error) {
	input := &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(name)}
	if want != "" {
		input.Range = &want
	}
	answer, err := s.client.GetObject(ctx, input)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

func (s suite) reads(ctx context.Context, name string, wanted []byte) error {
	got, err := s.get(ctx, name, "")
	if err != nil {
		return err
	}
	return same(got, wanted)
}

func (s suite) putAndGet(ctx context.Context) error {
	data := content(2_000_003, 1)
	if err := s.put(ctx, "object ä+b", data); err != nil {
		return err
	}
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.key("object ä+b")})
	if err != nil {
		return err
	}
	if *head.ContentLength != int64(len(data)) || *head.ContentType != "text/css" || head.Metadata["made"] != "by go" {
		return fmt.Errorf("another head: %d, %s, %v", *head.ContentLength, *head.ContentType, head.Metadata)
	}
	for range 2 { // the second from memory
		if err := s.reads(ctx, "object ä+b", data); err != nil {
			return err
		}
	}
	return nil
}

func (s suite) ranges(ctx context.Context) error {
	data := content(2_000_003, 1)
	for want, wanted := range map[string][]byte{
		"bytes=0-0": data[:1], "bytes=1048570-1048580": data[1048570:1048581], "bytes=-5": data[len(data)-5:], "bytes=2000000-": data[2_000_000:],
	} {
		got, err := s.get(ctx, "object ä+b", want)
		if err == nil {
			err = same(got, wanted)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", want, err)
		}
	}
	return nil
}

func (s suite) overwrite(ctx context.Context) error {
	for seed := range int64(5) {
		data := content(5000, 10+seed)
		if err := s.put(ctx, "over", data); err != nil {
			return err
		}
		if err := s.reads(ctx, "over", data); err != nil {
			return err
		}
	}
	return nil
}

func (s suite) list(ctx context.Context) error {
	for number := range 5 {
		if err := s.put(ctx, fmt.Sprintf("list/%d", number), nil); err != nil {
			return err
		}
	}
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: s.key("list/"), MaxKeys: aws.Int32(2),
	})
	seen := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		seen += len(page.Contents)
	}
	if seen != 5 {
		return fmt.Errorf("%d keys, wanted 5", seen)
	}
	return nil
}

func (s suite) multipart(ctx context.Context) error {
	key := s.key("parts")
	begun, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: key})
	if err != nil {
		return err
	}
	var whole []byte
	var parts []types.CompletedPart
	for number, size := range []int{part, part, 1000} {
		data := content(size, int64(number))
		whole = append(whole, data...)
		answer, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.bucket, Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(int32(number + 1)), Body: bytes.NewReader(data),
		})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{
			ETag: answer.ETag, PartNumber: aws.Int32(int32(number + 1)), ChecksumCRC32: answer.ChecksumCRC32,
		})
	}
	listed, err := s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: &s.bucket, Key: key, UploadId: begun.UploadId})
	if err != nil {
		return err
	}
	if len(listed.Parts) != 3 {
		return fmt.Errorf("%d parts, wanted 3", len(listed.Parts))
	}
	if _, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		return err
	}
	return s.reads(ctx, "parts", whole)
}

func (s suite) managed(ctx context.Context) error {
	data := content(12<<20, 3)
	if _, err := manager.NewUploader(s.client).Upload(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.key("managed"), Body: bytes.NewReader(data),
	}); err != nil {
		return err
	}
	got := manager.NewWriteAtBuffer(nil)
	if _, err := manager.NewDownloader(s.client).Download(ctx, got, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: s.key("managed"),
	}); err != nil {
		return err
	}
	return same(got.Bytes(), data)
}

func (s suite) copy(ctx context.Context) error {
	if _, err := s.client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &s.bucket, Key: s.key("copy"), CopySource: aws.String(s.bucket + "/" + s.prefix + "over"),
	}); err != nil {
		return err
	}
	return s.reads(ctx, "copy", content(5000, 14))
}

func (s suite) delete(ctx context.Context) error {
	if _, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key("copy")}); err != nil {
		return err
	}
	var absent *types.NoSuchKey
	if _, err := s.get(ctx, "copy", ""); !errors.As(err, &absent) {
		return fmt.Errorf("a deleted object answers %w", err)
	}
	listed, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &s.prefix})
	if err != nil {
		return err
	}
	var all []types.ObjectIdentifier
	for _, one := range listed.Contents {
		all = append(all, types.ObjectIdentifier{Key: one.Key})
	}
	if _, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: all},
	}); err != nil {
		return err
	}
	if _, err := s.get(ctx, "over", ""); !errors.As(err, &absent) {
		return fmt.Errorf("an object deleted with others answers %w", err)
	}
	return nil
}
