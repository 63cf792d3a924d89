//! The way of one controller to the runners, and what they answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use paddock_controller::runners::Transport;
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateRequest, ActivateResponse, Activity, Capabilities, ErrorBody, ErrorCode,
    Position, QUIESCE, QuiesceRequest,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::nodes::{Claim, Nodes};

/// One controller's connections to runners.
pub struct Wire {
    pub nodes: Arc<Mutex<Nodes>>,
    /// False once the controller has crashed.
    pub alive: Arc<AtomicBool>,
    pub dice: Mutex<Dice>,
    /// How many of a thousand requests go wrong, while `troubled`.
    pub trouble: u64,
    pub troubled: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Luck {
    Good,
    NeverThere,
    AnswerLost,
    NotReady,
}

impl Transport for Wire {
    fn exchange<'a>(
        &'a self,
        endpoint: &'a str,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'a, Result<(StatusCode, Bytes), String>> {
        self.send(endpoint, request).boxed()
    }
}

impl Wire {
    async fn send(
        &self,
        endpoint: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        let (luck, there, back) = self.luck();
        sleep(there).await;
        self.lives().await;
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let token = parts.headers["authorization"].to_str().unwrap_or_default();
        let ip = endpoint.rsplit_once(':').map_or(endpoint, |(ip, _)| ip);
        let answer = match luck {
            Luck::NeverThere => Err("connection timed out".to_owned()),
            Luck::NotReady => Ok(refuse(ErrorCode::NotReady)),
            Luck::Good | Luck::AnswerLost => self.serve(ip, parts.uri.path(), token, &body),
        };
        sleep(back).await;
        self.lives().await;
        if luck == Luck::AnswerLost { Err("connection reset by peer".to_owned()) } else { answer }
    }

    /// A crashed controller sends and hears nothing.
    async fn lives(&self) {
        if !self.alive.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn luck(&self) -> (Luck, Duration, Duration) {
        let mut dice = self.dice.lock();
        let (there, back) = (dice.millis(1, 10), dice.millis(1, 10));
        if !self.troubled.load(Ordering::Relaxed) || !dice.per_mille(self.trouble) {
            return (Luck::Good, there, back);
        }
        let slow = dice.millis(100, 3000);
        match dice.roll(4) {
            0 => (Luck::NeverThere, slow, back),
            1 => (Luck::AnswerLost, there, slow),
            2 => (Luck::NotReady, there, back),
            _ => (Luck::Good, slow, back),
        }
    }

    fn serve(&self, ip: &str, path: &str, token: &str, body: &[u8]) -> Result<(StatusCode, Bytes), String> {
        let mut nodes = self.nodes.lock();
        let Some(pod_uid) = nodes.at(ip) else { return Err("connection refused".to_owned()) };
        if audience(token).as_deref() != Some(&pod_uid) {
            return Ok(refuse(ErrorCode::Unauthorized));
        }
        if path == ACTIVATE {
            let request: ActivateRequest = serde_json::from_slice(body).map_err(|error| error.to_string())?;
            let claim = Claim { session_uid: request.session.uid.clone(), incarnation: request.incarnation };
            if !nodes.claim(&pod_uid, claim) {
                return Ok(refuse(ErrorCode::BoundToOther));
            }
            let env = request.agent.env.into_iter().map(|var| (var.name, var.value));
            nodes.environments.insert(pod_uid.clone(), env.collect());
            match nodes.equip(&pod_uid, request.agent.equipment) {
                None => {}
                Some(Ok(progress)) => return Ok((StatusCode::ACCEPTED, answer(&progress).1)),
                Some(Err(error)) => {
                    let body = ErrorBody { code: ErrorCode::ActivationFailed, error };
                    return Ok((StatusCode::UNPROCESSABLE_ENTITY, answer(&body).1));
                }
            }
            return Ok(answer(&ActivateResponse {
                session_uid: request.session.uid,
                incarnation: request.incarnation,
                harness_session_id: format!("ses_{pod_uid}"),
                capabilities: Capabilities { messages: true, terminal: false },
                took_ms: 1,
                steps: Vec::new(),
            }));
        }
        if nodes.holder(&pod_uid).is_none() {
            return Ok(refuse(ErrorCode::NotActivated));
        }
        let (idle, quiesced) = nodes.idle(&pod_uid).unwrap_or_default();
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        // Something was said in each.
        let transcript = Position { journal: 1, seq: 100 };
        match path {
            ACTIVITY => Ok(answer(&Activity { idle_ms, quiesced, transcript, ..Activity::default() })),
            QUIESCE => {
                let request: QuiesceRequest =
                    serde_json::from_slice(body).map_err(|error| error.to_string())?;
                if request.if_idle_ms.is_some_and(|wanted| idle_ms < wanted) {
                    return Ok(refuse(ErrorCode::Busy));
                }
                nodes.quiesce(&pod_uid);
                Ok(answer(&Activity { idle_ms, quiesced: true, transcript, ..Activity::default() }))
            }
            _ => Ok(refuse(ErrorCode::NotFound)),
        }
    }
}

/// The pod that a token is for. Its signature is not what is tried here.
fn audience(header: &str) -> Option<String> {
    let payload = header.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims["aud"].as_str().map(str::to_owned)
}

fn answer(body: &impl Serialize) -> (StatusCode, Bytes) {
    (StatusCode::OK, serde_json::to_vec(body).unwrap().into())
}

fn refuse(code: ErrorCode) -> (StatusCode, Bytes) {
    let body = ErrorBody { code, error: "as the simulation wants it".to_owned() };
    (StatusCode::from_u16(code.status()).unwrap(), serde_json::to_vec(&body).unwrap().into())
}
