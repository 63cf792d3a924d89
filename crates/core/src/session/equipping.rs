//! A pod that takes its time to become the session's: it clones, installs and connects.
//!
//! The runner does that by itself and is asked again and again how far it is; each question waits in the runner. To the API server
//! it costs one status write per step. What the agent asks for and cannot be had ends the session: no other pod would do better.

use jiff::{SignedDuration, Timestamp};
use paddock_api::session::{Phase, Reason, StartupStep, Step};
use paddock_api::{Sandbox, Session};
use paddock_runnerapi::{ActivationStep, StepTook};

use crate::ids::uid;
use crate::pod::Pod;
use crate::session::ending::end;
use crate::session::{Context, Decision, Memory};

/// A runner that answers sooner than it should is not asked in a tight loop.
const PACE: SignedDuration = SignedDuration::from_millis(100);
/// Longest part of a runner's words that is put into the status, in characters.
const MAX_WORDS: usize = 2000;

/// What is told of the pod that is being given the session, if there is anything to tell.
pub(super) fn told<'a>(memory: &'a Memory, pod: &Pod) -> Option<(Step, &'a str)> {
    let step = memory.progress.as_ref().filter(|p| p.pod_uid == pod.uid).map(|p| step(p.step));
    match (&memory.runner_trouble, step) {
        (Some(trouble), step) => Some((step.unwrap_or(Step::Activating), trouble)),
        (None, Some(step)) => Some((step, in_words(step))),
        (None, None) => None,
    }
}

/// When the runner of `pod` is asked again; nothing when it may be asked now.
pub(super) fn asked_again_at(ctx: Context<'_>, memory: &Memory, pod: &Pod) -> Option<Timestamp> {
    let told = memory.progress.as_ref().filter(|p| p.pod_uid == pod.uid)?;
    Some(told.at + PACE).filter(|at| ctx.now < *at)
}

/// What `pod` does, or did when an earlier leader last heard of it, to become the session's.
pub(super) fn doing(
    session: &Session,
    memory: &Memory,
    sandbox: &Sandbox,
    pod: &Pod,
) -> Option<&'static str> {
    let heard = memory.progress.as_ref().filter(|p| p.pod_uid == pod.uid).map(|p| step(p.step));
    let status = session.status.as_ref();
    let is_its =
        status.and_then(|status| status.sandbox.as_ref()).is_some_and(|of| of.uid == uid(&sandbox.metadata));
    let written = status.and_then(|status| status.step).filter(|_| is_its);
    heard.or(written).filter(|step| step.is_equipping()).map(in_words)
}

/// How long each step took, as it stands in the status.
pub(super) fn took(steps: &[StepTook]) -> Vec<StartupStep> {
    steps.iter().map(|took| StartupStep { step: step(took.step), took_ms: took.took_ms }).collect()
}

/// The end of a session whose agent asks for what cannot be had.
pub(super) fn failed(ctx: Context<'_>, session: &Session, why: &str) -> Decision {
    let why = why.chars().take(MAX_WORDS).collect();
    end(ctx, session, Phase::Failed, Reason::ActivationFailed, why)
}

const fn step(of: ActivationStep) -> Step {
    match of {
        ActivationStep::CloningRepo => Step::CloningRepo,
        ActivationStep::WritingFiles => Step::WritingFiles,
        ActivationStep::InstallingRequirements => Step::InstallingRequirements,
        ActivationStep::ConnectingMcp => Step::ConnectingMcp,
        ActivationStep::OpeningHarness => Step::OpeningHarness,
    }
}

const fn in_words(step: Step) -> &'static str {
    match step {
        Step::EndingPod => "waiting for the last pod to end",
        Step::StartingPod => "starting the pod",
        Step::Activating => "giving the pod its session",
        Step::CloningRepo => "cloning the repository",
        Step::WritingFiles => "writing files and skills",
        Step::InstallingRequirements => "installing requirements",
        Step::ConnectingMcp => "connecting to MCP servers",
        Step::OpeningHarness => "opening the conversation in the harness",
    }
}
