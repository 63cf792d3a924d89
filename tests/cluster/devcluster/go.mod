module paddock.dev/tests/cluster/devcluster

go 1.25.0
