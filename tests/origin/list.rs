//! Lists.

use falcon_cache::origin::Error;

use super::{origin, strange_keys};

#[tokio::test]
async fn a_list_goes_on_where_it_stopped_and_ends() {
    let (s3, origin, _keys) = origin().await;
    for n in 0..25 {
        s3.put("bucket", &format!("in/{n:02}"), vec![b'x'; n]);
    }
    s3.put("bucket", "other", "x");
    let (mut found, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = origin
            .list("bucket", "in/", 10, cursor.as_deref())
            .await
            .unwrap();
        found.extend(page.objects);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (25, 3));
    assert_eq!((found[7].key.as_str(), found[7].size), ("in/07", 7));
    assert!(found[7].etag.is_some() && found[7].last_modified.is_some());
}

#[tokio::test]
async fn listed_keys_are_exact_even_at_the_end_of_a_page() {
    let (s3, origin, _keys) = origin().await;
    let mut keys = strange_keys();
    keys.push("control\u{1}character\n".to_owned());
    for key in &keys {
        s3.put("bucket", key, "x");
    }
    keys.sort();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = origin
            .list("bucket", "", 1, cursor.as_deref())
            .await
            .unwrap();
        found.extend(page.objects.into_iter().map(|entry| entry.key));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, keys);
    let page = origin.list("bucket", "ä/€", 10, None).await.unwrap();
    assert_eq!(page.objects.len(), 1);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_has_no_list() {
    let (_s3, origin, _keys) = origin().await;
    let error = origin
        .list("no-such-bucket", "", 10, None)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { code, .. } if code == "NoSuchBucket"),
        "{error}"
    );
}
