//! A controller process: one life of it, from its start to its end or crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use paddock_controller::{Clock, Controller, Election, Settings};
use paddock_core::build::RunnerSettings;
use paddock_kubeio::client::{ClientOptions, over};
use paddock_kubeio::lease::LeaseTiming;
use paddock_runnerapi::SigningKey;
use paddock_testkit::apiserver::ApiServer;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::objects::{NS, SYSTEM};
use crate::runner::Wire;

// Test key, made with `openssl genpkey -algorithm ed25519`.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

/// Whether controllers elect a leader, or all believe to be it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    Elected,
    Everybody,
}

pub struct Process {
    pub name: String,
    alive: Arc<AtomicBool>,
    /// How far its clock is off, in milliseconds.
    pub skew: Arc<AtomicI64>,
    task: JoinHandle<Result<(), paddock_controller::RunError>>,
    stop: CancellationToken,
}

impl Process {
    pub fn start(
        server: &ApiServer,
        name: String,
        wire: Wire,
        leadership: Leadership,
        keeps_transcripts: bool,
    ) -> Self {
        let alive = wire.alive.clone();
        let client = over(server.connect(&name), NS, &ClientOptions::default());
        let key = SigningKey::from_pem(PEM.as_bytes()).unwrap();
        let settings = Settings {
            identity: name.clone(),
            election: (leadership == Leadership::Elected).then(|| Election {
                namespace: SYSTEM.to_owned(),
                name: "paddock-controller".to_owned(),
                timing: LeaseTiming::default(),
            }),
            runner: RunnerSettings {
                image: "runner:1".to_owned(),
                pull_policy: "IfNotPresent".to_owned(),
                public_keys: key.public_key().to_owned(),
            },
            keeps_transcripts_in: if keeps_transcripts { vec![NS.to_owned()] } else { Vec::new() },
        };
        let skew = Arc::new(AtomicI64::new(0));
        let stop = CancellationToken::new();
        let controller = Controller::new(client, key, settings)
            .with_clock(clock(server.now(), skew.clone()))
            .with_transport(Arc::new(wire));
        let task = tokio::spawn(controller.run(stop.clone()));
        Self { name, alive, skew, task, stop }
    }

    /// False once a fault has crashed it.
    pub fn lives(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Nothing of it reaches anybody any more.
    pub fn crash(self) {
        self.alive.store(false, Ordering::Relaxed);
        self.task.abort();
    }

    /// It is asked to stop, and does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.alive.store(false, Ordering::Relaxed);
    }

    /// A controller that ends by itself is broken.
    pub fn check(&self) {
        assert!(!self.task.is_finished(), "{} has ended by itself", self.name);
    }
}

/// Tokio's time, begun at `epoch`.
fn clock(epoch: Timestamp, skew: Arc<AtomicI64>) -> Clock {
    let begun = Instant::now();
    Clock::new(move || {
        let passed = SignedDuration::try_from(begun.elapsed()).unwrap();
        epoch + passed + SignedDuration::from_millis(skew.load(Ordering::Relaxed))
    })
}
