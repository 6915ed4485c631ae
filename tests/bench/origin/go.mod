module falcon.bench/origin

go 1.23
