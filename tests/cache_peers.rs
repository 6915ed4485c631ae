//! Several nodes: who is asked, how often, and what a node that is gone costs.

use crate::harness::node::Ring;
use crate::harness::s3::S3;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_get_reads_s3_the_next_memory_and_another_node_asks_the_owner() {
    let s3 = S3::start().await;
    s3.put("bucket", "key-0", "hello");
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let owner = ring.owner("key-0", 0);
    let others = ring.others("key-0");
    for (node, source) in [
        (owner, "origin"),
        (owner, "memory"),
        (others[0], "peer"),
        (others[0], "memory"),
        (others[1], "peer"),
    ] {
        let answer = ring.nodes[node].get("key-0").await;
        assert_eq!(
            (answer.status.as_u16(), answer.source(), &answer.body[..]),
            (200, source, &b"hello"[..])
        );
    }
    assert_eq!(s3.counts().values().sum::<u64>(), 1, "{:?}", s3.counts());
}
