//! Which agent, pool and template a session is made from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::agent::{AgentSpec, Lifecycle, Workspace};
use paddock_api::labels::{self, name_hash};
use paddock_api::pool::Suitability;
use paddock_api::session::{FrozenAgent, Reason};
use paddock_api::{SandboxTemplate, SandboxWarmPool, Session};

use crate::ids::{Key, annotation, uid};
use crate::op::{Named, Refresh};
use crate::session::agent_of;
use crate::store::Store;

/// An agent as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedAgent {
    /// How it behaves, the session's own life-cycle rules included.
    pub spec: AgentSpec,
    /// What is written to the session's status.
    pub frozen: FrozenAgent,
}

/// Where a session's sandbox comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The pool, if any serves the agent.
    pub pool: Option<&'a SandboxWarmPool>,
    /// The template of the pool, or the harness's own.
    pub template: &'a SandboxTemplate,
}

/// What is missing, in words a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Bounded reason.
    pub reason: Reason,
    /// What to do.
    pub message: String,
    /// The read that tells whether it is really missing, where one object by name is.
    pub ask: Option<Refresh>,
}

/// The Agent that `session` names, as it is now.
fn saved<'a>(store: &'a Store, session: &Session) -> Option<&'a AgentSpec> {
    agent_of(store, session).map(|agent| &agent.spec)
}

/// The rules of the session's life, its own taking the place of the agent's; none while its Agent does not exist.
pub fn lifecycle(store: &Store, session: &Session) -> Option<Lifecycle> {
    session.lifecycle(saved(store, session))
}

/// Where the session's files are kept; none while its Agent does not exist.
pub fn workspace<'a>(store: &'a Store, session: &'a Session) -> Option<&'a Workspace> {
    session.made_from(saved(store, session)).map(|spec| &spec.workspace)
}

/// The agent of `session`: as it was frozen, or as it is now.
///
/// # Errors
/// When the Agent does not exist.
pub fn agent(store: &Store, session: &Session) -> Result<ResolvedAgent, Missing> {
    let kept = session.status.as_ref().and_then(|status| {
        let frozen = status.agent.as_ref()?;
        Some(((**frozen.spec.as_ref()?).clone(), frozen.clone()))
    });
    if let Some((spec, frozen)) = kept {
        return Ok(resolved(spec, frozen, session));
    }
    let (spec, frozen) = match (&session.spec.agent, &session.spec.agent_ref) {
        (Some(inline), _) => (inline.clone(), FrozenAgent::default()),
        (None, Some(reference)) => {
            let namespace = session.metadata.namespace.clone().unwrap_or_default();
            let key = Key::new(namespace.clone(), &reference.name);
            let agent = store.agents.get(&key).ok_or_else(|| Missing {
                ask: Some(Refresh::Agent(Named { key: key.clone(), uid: None })),
                reason: Reason::AgentNotFound,
                message: format!(
                    "agent {:?} does not exist in namespace {namespace}; create it, or name another in agentRef",
                    reference.name
                ),
            })?;
            if is_behind(&agent.metadata, session) {
                return Err(Missing {
                    ask: Some(Refresh::Agent(Named { key, uid: None })),
                    reason: Reason::AgentNotFound,
                    message: format!(
                        "agent {:?} has changed, and the change does not arrive",
                        reference.name
                    ),
                });
            }
            let frozen = FrozenAgent {
                name: reference.name.clone(),
                uid: uid(&agent.metadata).to_owned(),
                generation: agent.metadata.generation.unwrap_or_default(),
                hash: String::new(),
                spec: Some(Box::new(agent.spec.clone())),
            };
            (agent.spec.clone(), frozen)
        }
        (None, None) => {
            return Err(Missing {
                ask: None,
                reason: Reason::AgentNotFound,
                message: "the session names no agent; set agentRef or agent".into(),
            });
        }
    };
    Ok(resolved(spec, frozen, session))
}

/// Whether the agent that `session` was made for has changed since the state that is known here. Agents and sessions are
/// watched apart, so what a client wrote first may come last.
fn is_behind(agent: &ObjectMeta, session: &Session) -> bool {
    let seen = annotation(&session.metadata, labels::AGENT_SEEN).and_then(|seen| seen.split_once('/'));
    let number = |version: &str| version.parse::<u64>().ok();
    seen.is_some_and(|(uid, version)| {
        let known = agent.resource_version.as_deref().and_then(number);
        agent.uid.as_deref() == Some(uid)
            && number(version).zip(known).is_some_and(|(seen, known)| known < seen)
    })
}

fn resolved(mut spec: AgentSpec, mut frozen: FrozenAgent, session: &Session) -> ResolvedAgent {
    spec.lifecycle = spec.lifecycle.overridden_by(&session.spec.lifecycle);
    spec.env = paddock_api::agent::merge_env(&spec.env, &session.spec.env);
    if !session.spec.files.is_empty() {
        spec.files = paddock_api::agent::merge_files(&spec.files, &session.spec.files);
    }
    frozen.hash = name_hash(&serde_json::to_string(&spec).unwrap_or_default());
    ResolvedAgent { spec, frozen }
}

/// The pool and template that serve `agent` in `namespace`.
///
/// # Errors
/// When the named pool, its template, or any template for the harness is missing.
pub fn source<'a>(store: &'a Store, namespace: &str, agent: &AgentSpec) -> Result<Source<'a>, Missing> {
    let pool = match &agent.pool_ref {
        Some(reference) => Some(named_pool(store, namespace, &reference.name, "poolRef")?),
        None => default_pool(store, namespace, agent),
    };
    let template = match pool {
        Some(pool) => template_of(store, namespace, pool, &agent.harness)?,
        None => harness_template(store, namespace, &agent.harness).ok_or_else(|| Missing {
            ask: None,
            reason: Reason::TemplateNotFound,
            message: format!(
                "no SandboxTemplate in namespace {namespace} declares harness {:?} (annotation {}); install a pool for it there",
                agent.harness,
                labels::HARNESS
            ),
        })?,
    };
    Ok(Source { pool, template })
}

fn named_pool<'a>(
    store: &'a Store,
    namespace: &str,
    name: &str,
    field: &str,
) -> Result<&'a SandboxWarmPool, Missing> {
    let key = Key::new(namespace, name);
    store.pools.get(&key).ok_or_else(|| Missing {
        ask: Some(Refresh::Pool(Named { key: key.clone(), uid: None })),
        reason: Reason::PoolNotFound,
        message: format!(
            "pool {name:?} does not exist in namespace {namespace}; create that SandboxWarmPool, or name another in {field}"
        ),
    })
}

/// The template of `pool`, which must declare `harness`.
fn template_of<'a>(
    store: &'a Store,
    namespace: &str,
    pool: &SandboxWarmPool,
    harness: &str,
) -> Result<&'a SandboxTemplate, Missing> {
    let name = &pool.spec.sandbox_template_ref.name;
    let pool = pool.metadata.name.as_deref().unwrap_or_default();
    let key = Key::new(namespace, name);
    let template = store.templates.get(&key).ok_or_else(|| Missing {
        ask: Some(Refresh::Template(Named { key: key.clone(), uid: None })),
        reason: Reason::TemplateNotFound,
        message: format!(
            "pool {pool:?} names the SandboxTemplate {name:?}, which does not exist in namespace {namespace}"
        ),
    })?;
    let declared = annotation(&template.metadata, labels::HARNESS);
    if declared != Some(harness) {
        return Err(Missing {
            ask: None,
            reason: Reason::TemplateNotFound,
            message: format!(
                "SandboxTemplate {name:?} of pool {pool:?} declares harness {:?}, but the agent wants {harness:?}; name another pool",
                declared.unwrap_or("none"),
            ),
        });
    }
    Ok(template)
}

/// The pool that `session` asks first, whether it is of use or not.
pub fn pool<'a>(store: &'a Store, session: &Session) -> Option<&'a SandboxWarmPool> {
    let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
    let agent = match (&session.spec.agent, &session.spec.agent_ref) {
        (Some(inline), _) => inline,
        (None, Some(reference)) => &store.agents.get(&Key::new(namespace, &reference.name))?.spec,
        (None, None) => return None,
    };
    match &agent.pool_ref {
        Some(reference) => store.pools.get(&Key::new(namespace, &reference.name)),
        None => default_pool(store, namespace, agent),
    }
}

/// A pool that is asked when those before it have no member ready.
#[derive(Clone, Copy, Debug)]
pub struct Fallback<'a> {
    /// The pool.
    pub pool: &'a SandboxWarmPool,
    /// Its template.
    pub template: &'a SandboxTemplate,
}

/// The pools that `agent` falls back to, in its order; or why one of them is of no use.
pub fn fallbacks<'a>(
    store: &'a Store,
    namespace: &'a str,
    agent: &'a AgentSpec,
) -> impl Iterator<Item = Result<Fallback<'a>, Missing>> {
    agent.fallback_pool_refs.iter().map(move |reference| {
        let pool = named_pool(store, namespace, &reference.name, "fallbackPoolRefs")?;
        let template = template_of(store, namespace, pool, &agent.harness)?;
        Ok(Fallback { pool, template })
    })
}

/// The pool for agents that name none.
fn default_pool<'a>(store: &'a Store, namespace: &str, agent: &AgentSpec) -> Option<&'a SandboxWarmPool> {
    let suits = |pool: &'a SandboxWarmPool| {
        let template = store.templates.get(&Key::new(namespace, &pool.spec.sandbox_template_ref.name))?;
        Some((Suitability::of(pool, template, agent)?, pool))
    };
    let suitable = store.pools_in(namespace).filter_map(suits);
    suitable.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, pool)| pool)
}

fn harness_template<'a>(store: &'a Store, namespace: &str, harness: &str) -> Option<&'a SandboxTemplate> {
    store
        .templates_in(namespace)
        .filter(|t| annotation(&t.metadata, labels::HARNESS) == Some(harness))
        .min_by_key(|t| t.metadata.name.clone())
}
