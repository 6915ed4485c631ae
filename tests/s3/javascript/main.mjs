// Stores, reads, lists and deletes through an S3 endpoint with the AWS SDK for JavaScript, of which nothing is set but the endpoint.
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import {
  CompleteMultipartUploadCommand, CopyObjectCommand, CreateMultipartUploadCommand, DeleteObjectCommand, DeleteObjectsCommand,
  GetObjectCommand, HeadObjectCommand, ListPartsCommand, PutObjectCommand, S3Client, UploadPartCommand, paginateListObjectsV2,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const [endpoint, Bucket, accessKeyId, secretAccessKey] = process.argv.slice(2);
if (!secretAccessKey) {
  console.error("usage: main.mjs ENDPOINT BUCKET KEY-ID SECRET");
  process.exit(2);
}
const client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
const prefix = `javascript-${randomBytes(4).toString("hex")}/`;
const PART = 5 << 20;

const where = (name) => ({ Bucket, Key: prefix + name });
const sum = (data) => createHash("sha256").update(data).digest("hex");

function same(got, wanted, what) {
  if (got.length !== wanted.length || sum(got) !== sum(wanted)) {
    throw new Error(`${what}: other bytes: ${got.length}, wanted ${wanted.length}`);
  }
}

async function get(name, more = {}) {
  const answer = await client.send(new GetObjectCommand({ ...where(name), ...more }));
  return Buffer.from(await answer.Body.transformToByteArray());
}

const put = (name, Body, more = {}) => client.send(new PutObjectCommand({ ...where(name), Body, ...more }));

async function absent(name) {
  try {
    await get(name);
  } catch (error) {
    if (error.name === "NoSuchKey") return;
    throw error;
  }
  throw new Error(`${name} is still there`);
}

const object = randomBytes(2_000_003);
const steps = {
  "put and get": async () => {
    await put("object ä+b", object, { ContentType: "text/css", Metadata: { made: "by javascript" } });
    const head = await client.send(new HeadObjectCommand(where("object ä+b")));
    if (head.ContentLength !== object.length || head.ContentType !== "text/css" || head.Metadata.made !== "by javascript") {
      throw new Error(`another head: ${JSON.stringify(head)}`);
    }
    same(await get("object ä+b"), object, "first");
    same(await get("object ä+b"), object, "second"); // from memory
  },
  range: async () => {
    same(await get("object ä+b", { Range: "bytes=0-0" }), object.subarray(0, 1), "first byte");
    same(await get("object ä+b", { Range: "bytes=1048570-1048580" }), object.subarray(1048570, 1048581), "over an edge");
    same(await get("object ä+b", { Range: "bytes=-5" }), object.subarray(-5), "last five");
  },
  overwrite: async () => {
    for (let round = 0; round < 5; round += 1) {
      const data = randomBytes(5000);
      await put("over", data);
      same(await get("over"), data, `round ${round}`);
    }
  },
  list: async () => {
    for (let number = 0; number < 5; number += 1) await put(`list/${number}`, "");
    let seen = 0;
    for await (const page of paginateListObjectsV2({ client, pageSize: 2 }, { Bucket, Prefix: `${prefix}list/` })) {
      seen += page.Contents?.length ?? 0;
    }
    if (seen !== 5) throw new Error(`${seen} keys, wanted 5`);
  },
  "multipart of three parts": async () => {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(where("parts")));
    const data = [randomBytes(PART), randomBytes(PART), randomBytes(1000)];
    const Parts = [];
    for (const [index, Body] of data.entries()) {
      const PartNumber = index + 1;
      const { ETag, ChecksumCRC32 } = await client.send(new UploadPartCommand({ ...where("parts"), UploadId, PartNumber, Body }));
      Parts.push({ PartNumber, ETag, ChecksumCRC32 });
    }
    const listed = await client.send(new ListPartsCommand({ ...where("parts"), UploadId }));
    if (listed.Parts.length !== 3) throw new Error(`${listed.Parts.length} parts, wanted 3`);
    await client.send(new CompleteMultipartUploadCommand({ ...where("parts"), UploadId, MultipartUpload: { Parts } }));
    same(await get("parts"), Buffer.concat(data), "whole");
  },
  "upload of a stream": async () => {
    const data = randomBytes(12 << 20);
    const pieces = function* pieces() {
      for (let start = 0; start < data.length; start += 65536) yield data.subarray(start, start + 65536);
    };
    await new Upload({ client, params: { ...where("stream"), Body: Readable.from(pieces()) } }).done();
    same(await get("stream"), data, "whole");
  },
  copy: async () => {
    const data = await get("over");
    await client.send(new CopyObjectCommand({ ...where("copy"), CopySource: `${Bucket}/${prefix}over` }));
    same(await get("copy"), data, "copy");
  },
  delete: async () => {
    await client.send(new DeleteObjectCommand(where("copy")));
    await absent("copy");
    const all = [];
    for await (const page of paginateListObjectsV2({ client }, { Bucket, Prefix: prefix })) {
      all.push(...(page.Contents ?? []).map(({ Key }) => ({ Key })));
    }
    await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: all } }));
    await absent("over");
  },
};

let failed = 0;
for (const [name, run] of Object.entries(steps)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAIL ${name}: ${error.name}: ${error.message}`);
    failed += 1;
  }
}
console.log(`${Object.keys(steps).length - failed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
