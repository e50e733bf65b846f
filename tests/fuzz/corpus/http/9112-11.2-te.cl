POST /post_v2/ HTTP/1.1
Host: h
Transfer-Encoding: chunked
Content-Length: 4

27
GET /healthz HTTP/1.1
Host: hidden


0

