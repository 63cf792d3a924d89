module paddock.dev/tests/cluster/devcluster

go 1.24
