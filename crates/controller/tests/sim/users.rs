//! What people and other programs do to the cluster.

use paddock_testkit::apiserver::{ApiServer, Call, Verb};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::nodes::Nodes;
use crate::objects::{NS, POOL, is_deleting, name, pool, session, text, uid};

/// Users, and what they have done so far.
#[derive(Debug)]
pub struct Users {
    dice: Dice,
    /// Sessions made so far.
    made: u64,
    most: u64,
    largest_pool: u64,
}

impl Users {
    pub fn new(dice: Dice, most: u64, largest_pool: u64) -> Self {
        Self { dice, made: 0, most, largest_pool }
    }

    /// One thing, or nothing.
    pub fn act(&mut self, server: &ApiServer, nodes: &mut Nodes) {
        match self.dice.roll(20) {
            0..=3 if self.made < self.most => self.make_session(server),
            4 => self.with_session(server, |server, session, _| delete(server, "sessions", session)),
            5 => self.with_session(server, |server, session, dice| {
                let state = dice.pick(&["Running", "Suspended", "Stopped"]).copied();
                patch(server, "sessions", name(session), json!({"spec": {"state": state}}));
            }),
            6 => self.with_session(server, |server, session, _| {
                let now = server.now().to_string();
                let restart = json!({"spec": {"state": "Running", "restartedAt": now}});
                patch(server, "sessions", name(session), restart);
            }),
            7 => self.with_pod(server, |server, pod, _| delete(server, "pods", pod)),
            8 => self.with_pod(server, |server, pod, _| nodes.fail(server, pod)),
            9 | 10 => {
                self.with_pod(server, |server, pod, dice| nodes.set_ready(server, pod, !dice.one_in(3)))
            }
            11 => {
                let replicas = self.dice.roll(self.largest_pool + 1);
                patch(server, "sandboxwarmpools", POOL, json!({"spec": {"replicas": replicas}}));
            }
            12 if self.dice.one_in(3) => {
                let image = format!("opencode:{}", self.dice.roll(3));
                let spec = json!({"containers": [{"name": "harness", "image": image}]});
                patch(server, "sandboxtemplates", POOL, json!({"spec": {"podTemplate": {"spec": spec}}}));
            }
            13 if self.dice.one_in(4) => {
                self.with_sandbox(server, |server, sandbox, _| delete(server, "sandboxes", sandbox))
            }
            14 if self.dice.one_in(6) => {
                // The pool is taken away and made again.
                if let Some(found) = server.object("sandboxwarmpools", NS, POOL) {
                    delete(server, "sandboxwarmpools", &found);
                    create(server, "sandboxwarmpools", pool(self.dice.roll(self.largest_pool + 1)));
                }
            }
            _ => {}
        }
    }

    pub fn make_session(&mut self, server: &ApiServer) {
        self.made += 1;
        let agent = if self.dice.one_in(3) { "keeper" } else { "coder" };
        // Names come back after a while, with other UIDs.
        let made = session(&format!("s{}", self.made % 9), agent);
        create(server, "sessions", made);
    }

    fn with_session(&mut self, server: &ApiServer, act: impl FnOnce(&ApiServer, &Value, &mut Dice)) {
        self.with_any(server, "sessions", act);
    }

    fn with_sandbox(&mut self, server: &ApiServer, act: impl FnOnce(&ApiServer, &Value, &mut Dice)) {
        self.with_any(server, "sandboxes", act);
    }

    fn with_pod(&mut self, server: &ApiServer, act: impl FnOnce(&ApiServer, &Value, &mut Dice)) {
        self.with_any(server, "pods", act);
    }

    fn with_any(
        &mut self,
        server: &ApiServer,
        plural: &str,
        act: impl FnOnce(&ApiServer, &Value, &mut Dice),
    ) {
        let all = server.objects(plural);
        if let Some(object) = self.dice.pick(&all).cloned() {
            act(server, &object, &mut self.dice);
        }
    }
}

/// Another program that writes to Paddock's objects for reasons of its own.
pub fn interfere(server: &ApiServer, dice: &mut Dice) {
    let plural = dice.pick(&["sessions", "sandboxes", "pods", "sandboxwarmpools", "persistentvolumeclaims"]);
    let Some(plural) = plural else { return };
    let all = server.objects(plural);
    let Some(object) = dice.pick(&all).filter(|object| !is_deleting(object)) else { return };
    let note = json!({"metadata": {"annotations": {"example.com/seen": dice.roll(1_000_000).to_string()}}});
    request(server, Verb::Patch, plural, name(object), note);
}

pub fn create(server: &ApiServer, plural: &str, object: Value) {
    request(server, Verb::Create, plural, "", object);
}

pub fn patch(server: &ApiServer, plural: &str, name: &str, patch: Value) {
    request(server, Verb::Patch, plural, name, patch);
}

pub fn delete(server: &ApiServer, plural: &str, object: &Value) {
    let options = json!({"preconditions": {"uid": uid(object)}, "propagationPolicy": "Background"});
    request(server, Verb::Delete, plural, text(object, "/metadata/name"), options);
}

/// Refusals are the users' own affair: what they meant may be gone.
fn request(server: &ApiServer, verb: Verb, plural: &str, name: &str, body: Value) {
    let call = Call::to(server, verb, plural, NS, name).unwrap();
    let _ = server.request("user", &call, body);
}
