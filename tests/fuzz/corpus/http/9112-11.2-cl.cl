POST /post_v2/ HTTP/1.1
Host: h
Content-Length: 0
Content-Length: 39

GET /healthz HTTP/1.1
Host: hidden

