//! The API server in memory against a real one: the same requests on both, and the answers and watches compared.
//!
//! Runs only if PADDOCK_TEST_KUBECONFIG names a kubeconfig with cluster-admin rights. It installs the definitions of
//! crds/ where they are missing, works in namespaces of its own and removes them. What differs by nature (UIDs, times,
//! the numbers of versions, managed fields, the wording of messages) is made comparable by `plain`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pair;
mod plain;
mod random;
mod scenarios;
mod target;
mod watching;
