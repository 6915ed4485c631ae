# Varnish as a cache of S3. @ORIGIN@ is put in by the bench.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

sub vcl_recv {
    # Nothing here is personal: straight to the lookup, no cookies, no built-in checks.
    return (hash);
}

sub vcl_hash {
    # The address alone: one origin, so no host name to mix in.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
    set beresp.grace = 0s;
    # To the first reader, and to those who wait, while it is read.
    set beresp.do_stream = true;
    return (deliver);
}

sub vcl_deliver {
    # No headers that nobody asked for.
    unset resp.http.X-Varnish;
    unset resp.http.Via;
    return (deliver);
}
