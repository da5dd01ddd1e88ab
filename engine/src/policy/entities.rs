//! From a request to what Cedar evaluates. Everything is built through Cedar's constructors: no
//! name, path or id is ever put into a text that is parsed, so none can say more than what it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request as CedarRequest,
    RestrictedExpression,
};

use super::load::{Policy, PolicyError, internal};
use super::request::{Request, Side, Subject};
use super::rules;
use super::words::Transport;
use crate::base::{Class, RelPath, utc};

/// The times that Cedar can hold as text: 1970 to 9999, in seconds since 1970.
const TIME_MAX_S: i64 = 253_402_300_799;
/// Time is told to policies by the minute, so that answers hold that long.
pub(super) const TIME_STEP_S: i64 = 60;
/// What a site has for a jurisdiction that is not configured.
const UNKNOWN: &str = "unknown";

/// Names of the schema's types, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Types {
    action: EntityTypeName,
    pub(super) class: EntityTypeName,
    dataset: EntityTypeName,
    identity: EntityTypeName,
    kind: EntityTypeName,
    role: EntityTypeName,
    site: EntityTypeName,
    tier: EntityTypeName,
    transport: EntityTypeName,
}

impl Types {
    pub(super) fn new() -> Result<Self, PolicyError> {
        let name = |text: &str| text.parse().map_err(|_| internal(text));
        Ok(Self {
            action: name("Action")?,
            class: name("Class")?,
            dataset: name("Dataset")?,
            identity: name("Identity")?,
            kind: name("Kind")?,
            role: name("Role")?,
            site: name("Site")?,
            tier: name("Tier")?,
            transport: name("Transport")?,
        })
    }
}

/// Somebody, and the roles that count now.
pub(super) struct Actor<'a> {
    /// The SPIFFE id.
    pub(super) id: &'a str,
    /// What it says.
    pub(super) subject: &'a Subject,
    /// Names of roles.
    pub(super) roles: &'a [&'a str],
}

/// What is asked, in full.
pub(super) struct Question<'a> {
    pub(super) request: &'a Request,
    pub(super) who: Actor<'a>,
    pub(super) second: Option<Actor<'a>>,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// The id of a path: as it is shown everywhere, without loss, so that it is text.
pub(super) fn path_id(path: &RelPath) -> String {
    path.to_string()
}

/// The time that policies are told.
pub(super) fn shown_time(now: i64) -> i64 {
    let now = now.clamp(0, TIME_MAX_S);
    now - now.rem_euclid(TIME_STEP_S)
}

type Value = RestrictedExpression;

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn link(kind: &EntityTypeName, id: &str) -> Value {
    Value::new_entity_uid(uid(kind, id))
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

fn attributes<const N: usize>(pairs: [(&str, Value); N]) -> HashMap<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Something that Cedar refused; it denies.
type Refused = Box<dyn std::error::Error + Send + Sync>;

impl Policy {
    /// The jurisdiction of a site.
    pub(super) fn jurisdiction(&self, side: &Side) -> &str {
        self.sites.get(&side.site).map_or(UNKNOWN, |known| known.as_str())
    }

    /// The request and everything that it speaks of, checked against the schema.
    pub(super) fn cedar(
        &self,
        question: &Question<'_>,
    ) -> Result<(CedarRequest, Entities), Refused> {
        let (types, request) = (&self.types, question.request);
        let mut entities = Vec::new();
        self.classes_into(&mut entities)?;
        let actors = [Some(&question.who), question.second.as_ref()].into_iter().flatten();
        for actor in actors.clone() {
            self.actor_into(actor, &mut entities)?;
        }
        let theirs = actors.map(|actor| &actor.subject.side);
        let sides = theirs.chain([&request.to, &request.from]).map(|side| (&side.site, side));
        for side in sides.collect::<BTreeMap<_, _>>().into_values() {
            let values = attributes([
                ("name", text(side.site.as_str())),
                ("tier", link(&types.tier, &side.tier.to_string())),
                ("jurisdiction", text(self.jurisdiction(side))),
            ]);
            entities.push(Entity::new(
                uid(&types.site, side.site.as_str()),
                values,
                HashSet::new(),
            )?);
        }
        self.datasets_into(request, &mut entities)?;
        let entities = Entities::from_entities(entities, Some(&self.schema))?;
        let request = CedarRequest::new(
            uid(&types.identity, question.who.id),
            uid(&types.action, request.action.as_str()),
            uid(&types.dataset, &path_id(&request.path)),
            self.context(question)?,
            Some(&self.schema),
        )?;
        Ok((request, entities))
    }

    /// Every class, each in the one above it.
    fn classes_into(&self, entities: &mut Vec<Entity>) -> Result<(), Refused> {
        let order = self.classes.order();
        let uid = |class: &Class| uid(&self.types.class, class.as_str());
        for (rank, class) in order.iter().enumerate() {
            let values = attributes([
                ("lowest", Value::new_bool(rank == 0)),
                ("highest", Value::new_bool(rank + 1 == order.len())),
            ]);
            let above = order.get(rank + 1).map(uid);
            entities.push(Entity::new(uid(class), values, above.into_iter().collect())?);
        }
        Ok(())
    }

    /// An identity, in its roles.
    fn actor_into(&self, actor: &Actor<'_>, entities: &mut Vec<Entity>) -> Result<(), Refused> {
        let (types, subject) = (&self.types, actor.subject);
        let values = attributes([
            ("kind", link(&types.kind, subject.kind.as_str())),
            ("domain", text(&subject.domain)),
            ("site", link(&types.site, subject.side.site.as_str())),
            ("name", text(&subject.name)),
        ]);
        let roles = actor.roles.iter().map(|role| uid(&types.role, role)).collect();
        entities.push(Entity::new(uid(&types.identity, actor.id), values, roles)?);
        Ok(())
    }

    /// The dataset and the directories above it, each in the next one.
    fn datasets_into(&self, request: &Request, entities: &mut Vec<Entity>) -> Result<(), Refused> {
        let types = &self.types;
        let mut path = Some(request.path.clone());
        while let Some(here) = path {
            let id = path_id(&here);
            let values = attributes([
                ("path", text(&id)),
                ("class", link(&types.class, request.class.as_str())),
                ("site", link(&types.site, request.from.site.as_str())),
            ]);
            path = here.parent();
            let above = path.as_ref().map(|above| uid(&types.dataset, &path_id(above)));
            let parents = above.into_iter().collect();
            entities.push(Entity::new(uid(&types.dataset, &id), values, parents)?);
        }
        Ok(())
    }

    fn context(&self, question: &Question<'_>) -> Result<Context, Refused> {
        let (types, request) = (&self.types, question.request);
        let number = i64::try_from(self.version().number).unwrap_or(i64::MAX);
        let mut values = attributes([
            ("from", link(&types.site, request.from.site.as_str())),
            ("to", link(&types.site, request.to.site.as_str())),
            ("transport", link(&types.transport, request.transport.as_str())),
            ("encrypted", Value::new_bool(request.transport != Transport::Rdma)),
            ("time", Value::new_datetime(utc::text(shown_time(question.now)))),
            ("policy", Value::new_long(number)),
        ]);
        if let Some(new) = &request.relabel {
            let lowers = rules::lowers(request, new, &self.classes);
            values.insert("class".to_owned(), link(&types.class, new.class.as_str()));
            values.insert("lowers".to_owned(), Value::new_bool(lowers));
        }
        if let Some(second) = &question.second {
            values.insert("second".to_owned(), link(&types.identity, second.id));
        }
        Ok(Context::from_pairs(values)?)
    }
}
