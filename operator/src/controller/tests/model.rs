//! A model of the API server, as far as the reconcile pipeline uses it: objects of one namespace in a map, apply with
//! field ownership, and failures on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tower_test::mock;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// `plural/name`, and the subresource.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) content_type: String,
    pub(super) body: Value,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    requests: Vec<Request>,
    failure: Option<(String, u16)>,
    crash: Option<(String, bool)>,
    reword: Option<(String, String)>,
    monitors: bool,
    version: u64,
}

/// The handle of the tests.
#[derive(Clone, Default)]
pub(super) struct Model(Arc<Mutex<State>>);

impl Model {
    pub(super) fn start() -> (Client, Self) {
        let (service, mut handle) = mock::pair::<HttpRequest<Body>, Response<Body>>();
        let model = Self::default();
        let answering = model.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let text = |name: &str| {
                    head.headers
                        .get(name)
                        .map(|value| value.to_str().unwrap().to_owned())
                        .unwrap_or_default()
                };
                let request = Request {
                    method: head.method.to_string(),
                    path: short(head.uri.path()),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    content_type: text("content-type"),
                    body: serde_json::from_slice(&bytes).unwrap_or_default(),
                };
                let (status, body) = answering.lock().answer(&request);
                let response = Response::builder()
                    .status(StatusCode::from_u16(status).unwrap())
                    .body(Body::from(body.to_string().into_bytes()));
                send.send_response(response.unwrap());
            }
        });
        (Client::new(service, "prod"), model)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    /// Somebody else removes an object.
    pub(super) fn remove(&self, path: &str) {
        self.lock().objects.remove(path);
    }

    /// Somebody else changes an object.
    pub(super) fn change(&self, path: &str, how: impl FnOnce(&mut Value)) {
        how(self.lock().objects.get_mut(path).unwrap());
    }

    /// The requests since the last call.
    pub(super) fn drain(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// Answers a request with this status and does not carry it out.
    pub(super) fn fail(&self, request: &str, status: u16) {
        self.lock().failure = Some((request.to_owned(), status));
    }

    /// From this request on everything fails, as for a process that dies; it was carried out or it was not.
    pub(super) fn crash_at(&self, request: &str, committed: bool) {
        self.lock().crash = Some((request.to_owned(), committed));
    }

    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        let mut state = self.lock();
        (state.failure, state.crash) = (None, None);
    }

    /// Normalises what was applied.
    pub(super) fn reword(&self, from: &str, to: &str) {
        self.lock().reword = Some((from.to_owned(), to.to_owned()));
    }

    pub(super) fn serve_monitors(&self) {
        self.lock().monitors = true;
    }

    /// Everything but versions, times and what is random.
    pub(super) fn contents(&self) -> BTreeMap<String, Value> {
        let mut objects = self.lock().objects.clone();
        for (path, object) in &mut objects {
            if path.starts_with("secrets/") {
                object["stringData"] = Value::Null;
            }
            object["metadata"]["resourceVersion"] = Value::Null;
            for condition in object["status"]["conditions"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                condition["lastTransitionTime"] = Value::Null;
            }
        }
        objects.retain(|path, _| !path.starts_with("events"));
        objects
    }
}

/// `/apis/apps/v1/namespaces/prod/statefulsets/media` as `statefulsets/media`.
fn short(path: &str) -> String {
    path.split_once("/namespaces/prod/")
        .map_or(path, |(_, rest)| rest)
        .to_owned()
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": format!("the model says {reason}"), "reason": reason, "code": code}),
    )
}

impl State {
    fn answer(&mut self, request: &Request) -> (u16, Value) {
        let named = if request.method == "POST" {
            format!(
                "{}/{}",
                request.path,
                request.body["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
            )
        } else {
            request.path.clone()
        };
        let line = format!("{} {named}", request.method);
        self.requests.push(Request {
            path: named.clone(),
            ..request.clone()
        });
        if let Some((at, committed)) = self.crash.clone() {
            if at == "*" {
                return refusal(500, "Dead");
            }
            if at == line {
                self.crash = Some(("*".to_owned(), true));
                if committed {
                    self.carry_out(request, &named);
                }
                return refusal(500, "Dead");
            }
        }
        match &self.failure {
            Some((failing, code)) if *failing == line => refusal(
                *code,
                if *code == 422 {
                    "Invalid"
                } else {
                    "Unavailable"
                },
            ),
            _ => self.carry_out(request, &named),
        }
    }

    fn carry_out(&mut self, request: &Request, named: &str) -> (u16, Value) {
        match request.method.as_str() {
            "GET" if named.contains("monitoring.coreos.com") && !self.monitors => {
                refusal(404, "NotFound")
            }
            "GET" if named.contains("monitoring.coreos.com") => {
                let kind = |kind: &str| json!({"name": kind.to_lowercase(), "kind": kind, "namespaced": true, "singularName": "", "verbs": []});
                (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "monitoring.coreos.com/v1", "resources": [kind("PodMonitor"), kind("ServiceMonitor")]}),
                )
            }
            "GET" if !named.contains('/') => {
                let prefix = format!("{named}/");
                let items: Vec<Value> = self
                    .objects
                    .iter()
                    .filter(|(path, _)| path.starts_with(&prefix))
                    .map(|(_, object)| object.clone())
                    .collect();
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
            "GET" => self
                .objects
                .get(named)
                .map_or_else(|| refusal(404, "NotFound"), |object| (200, object.clone())),
            "POST" if self.objects.contains_key(named) => refusal(409, "AlreadyExists"),
            "POST" => {
                self.objects.insert(named.to_owned(), request.body.clone());
                (201, request.body.clone())
            }
            "DELETE" => {
                let removed = self.objects.remove(named);
                removed.map_or_else(
                    || refusal(404, "NotFound"),
                    |_| {
                        (
                            200,
                            json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                        )
                    },
                )
            }
            "PATCH" => self.apply(request, named),
            other => panic!("the model does not know {other}"),
        }
    }

    fn apply(&mut self, request: &Request, named: &str) -> (u16, Value) {
        if let Some(path) = named.strip_suffix("/status") {
            let Some(object) = self.objects.get_mut(path) else {
                return refusal(404, "NotFound");
            };
            object["status"] = request.body["status"].clone();
            return (200, object.clone());
        }
        self.version += 1;
        if request.content_type.contains("merge-patch") {
            let Some(object) = self.objects.get_mut(named) else {
                return refusal(404, "NotFound");
            };
            merge(object, &request.body);
            return (200, object.clone());
        }
        let mut wanted = request.body.clone();
        if let Some((from, to)) = &self.reword {
            wanted = serde_json::from_str(&wanted.to_string().replace(from, to)).unwrap();
        }
        let object = self.objects.entry(named.to_owned()).or_insert_with(
            || json!({"metadata": {"uid": format!("uid-of-{named}"), "generation": 1}}),
        );
        let before = object["spec"].clone();
        let owned = object["metadata"]["managedFields"][0]["fieldsV1"].clone();
        let now = fields(&wanted);
        let mut kept = now.clone();
        for entry in object["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .skip(1)
        {
            merge(&mut kept, &entry["fieldsV1"]);
        }
        give_up(object, &owned, &kept);
        merge(object, &wanted);
        if !before.is_null() && before != object["spec"] {
            object["metadata"]["generation"] =
                json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        let others: Vec<Value> = object["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .skip(1)
            .cloned()
            .collect();
        let mut entries = vec![
            json!({"manager": "falcon-operator", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": now}),
        ];
        entries.extend(others);
        object["metadata"]["managedFields"] = Value::Array(entries);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        (200, object.clone())
    }
}

/// The fields of an object in the notation of `managedFields`; lists are atomic here.
fn fields(wanted: &Value) -> Value {
    let mut owned = below(wanted);
    let top = owned.as_object_mut().unwrap();
    top.remove("f:apiVersion");
    top.remove("f:kind");
    if let Some(meta) = top.get_mut("f:metadata").and_then(Value::as_object_mut) {
        for name in ["f:name", "f:namespace", "f:uid"] {
            meta.remove(name);
        }
    }
    owned
}

fn below(value: &Value) -> Value {
    let children = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (format!("f:{name}"), below(value)));
    Value::Object(children.collect::<Map<String, Value>>())
}

/// Removes what was owned and is owned by nobody any more.
fn give_up(object: &mut Value, owned: &Value, now: &Value) {
    let (Some(map), Some(owned)) = (object.as_object_mut(), owned.as_object()) else {
        return;
    };
    for (key, children) in owned {
        let name = &key[2..];
        match now.get(key) {
            None => drop(map.remove(name)),
            Some(still) => give_up(map.entry(name).or_insert(Value::Null), children, still),
        }
    }
}

fn merge(object: &mut Value, wanted: &Value) {
    match (object, wanted) {
        (Value::Object(map), Value::Object(wanted)) => {
            for (name, value) in wanted {
                merge(map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (object, wanted) => *object = wanted.clone(),
    }
}
