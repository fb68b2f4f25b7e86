//! What has neither key nor signature: taken for the local operator's only when it must come from this machine, and from nobody's web page.
//!
//! The address we listen on does not tell that. A page anywhere makes a browser on this machine ask it (a form, `fetch`, a name that is
//! made to point at 127.0.0.1), and so does a proxy for whoever reaches the proxy. What tells them apart: a page cannot choose the `Host`,
//! its requests carry `Origin` or `Sec-Fetch-Site`, and what it may send without being asked first (a "simple request" of the Fetch
//! standard) has one of three content types or none. A proxy says so in `Forwarded` or `X-Forwarded-*`.
//! **Invariant:** lets nobody in; it only refuses.

use std::net::IpAddr;

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};

use crate::api::error::Error;
use crate::config;

/// Content types that a page may send to any address without being asked first.
const SIMPLE_TYPES: [&str; 3] = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];

/// The names under which this service may be asked for without a key.
#[derive(Clone, Debug)]
pub struct Keyless {
    names: Vec<String>,
}

impl Keyless {
    /// Those of loopback, and by the settings: what is listed, and the address it listens on. Not the public URL's: a proxy may ask for
    /// that, and add nothing that shows it.
    #[must_use]
    pub fn of(server: &config::Server) -> Self {
        let bound = Some(server.bind).filter(|bind| !bind.is_unspecified()).map(|bind| bind.to_string());
        let listed = server.hosts.split(',').map(|name| name.trim().to_owned());
        let names = listed.chain(bound).filter(|name| !name.is_empty());
        Self { names: names.map(|name| bare(&name)).collect() }
    }

    /// # Errors
    /// 403 with what tells that it may come from elsewhere, and the way out.
    pub fn admit(&self, parts: &Parts) -> Result<(), Error> {
        let headers = &parts.headers;
        if let Some(name) = headers.keys().map(axum::http::HeaderName::as_str).find(|name| is_of_a_proxy(name)) {
            return Err(refused(&format!("it came through a proxy ({name})")));
        }
        let host = self.host_of(parts)?;
        if let Some(origin) = headers.get(ORIGIN)
            && !is_same_origin(origin.to_str().unwrap_or_default(), &host)
        {
            return Err(refused("its Origin is another site"));
        }
        let site = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
        // "none": typed by a person.
        let may_look = site == Some("none") && matches!(parts.method, Method::GET | Method::HEAD);
        if !(matches!(site, None | Some("same-origin")) || may_look) {
            return Err(refused("its Sec-Fetch-Site is another site"));
        }
        if has_body(headers) && is_simple(headers) {
            return Err(refused(
                "it has a body and no content type that a web page could not send, such as application/json",
            ));
        }
        Ok(())
    }

    /// The one host it asks for, if that is one of ours.
    fn host_of(&self, parts: &Parts) -> Result<Authority, Error> {
        let mut given = parts.headers.get_all(HOST).iter();
        let (first, second) = (given.next(), given.next());
        let host = match (parts.uri.authority(), first, second) {
            (_, _, Some(_)) => None,
            (Some(authority), None, None) => Some(authority.clone()),
            (authority, Some(host), None) => {
                let host = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
                host.filter(|host| authority.is_none_or(|authority| authority == host))
            }
            (None, None, None) => None,
        };
        let ours = host.filter(|host| {
            let name = bare(host.host());
            let rest = host.as_str().strip_prefix(host.host()).unwrap_or("@");
            let is_port =
                |rest: &str| rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            (rest.is_empty() || is_port(rest)) && (is_loopback(&name) || self.names.contains(&name))
        });
        ours.ok_or_else(|| refused("its Host is no name of this service (server.hosts lists more)"))
    }
}

fn refused(why: &str) -> Error {
    Error::forbidden(&format!(
        "what has neither key nor signature must come from this machine itself, and {why}: send a key; a webhook needs a signature (WEBHOOK_SECRET) or the URL we sent"
    ))
}

fn is_of_a_proxy(name: &str) -> bool {
    const OF_PROXIES: [&str; 8] = [
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "cf-connecting-ip",
        "true-client-ip",
        "x-original-host",
    ];
    name.starts_with("x-forwarded") || OF_PROXIES.contains(&name)
}

/// A name without the brackets of IPv6 and the dot of the root.
fn bare(name: &str) -> String {
    name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an origin is `http://` or `https://` and this host.
fn is_same_origin(origin: &str, host: &Authority) -> bool {
    let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    of.and_then(|of| of.parse::<Authority>().ok()).is_some_and(|of| of == *host)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_simple(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    match (given.next().map(|kind| kind.to_str().unwrap_or_default()), given.next()) {
        (Some(kind), None) => {
            let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            essence.is_empty() || !essence.contains('/') || SIMPLE_TYPES.contains(&essence.as_str())
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn admits(method: &str, uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        Keyless { names: vec!["dialer.example".to_owned()] }.admit(&parts).is_ok()
    }

    #[test]
    fn what_comes_from_here_is_admitted() {
        let json = ("content-type", "application/json; charset=utf-8");
        for host in [
            "localhost:3000",
            "127.0.0.1:3000",
            "127.9.9.9",
            "[::1]:3000",
            "LOCALHOST",
            "localhost.",
            "dialer.example:80",
        ] {
            assert!(admits("GET", "/", &[("host", host)]), "{host}");
            assert!(admits("POST", "/", &[("host", host), ("content-length", "0")]), "{host}");
            assert!(admits("POST", "/", &[("host", host), ("content-length", "2"), json]), "{host}");
            let origin = format!("http://{host}");
            assert!(
                admits("POST", "/", &[("host", host), ("origin", &origin), ("sec-fetch-site", "same-origin")]),
                "{host}"
            );
        }
        assert!(admits("GET", "/", &[("host", "localhost"), ("sec-fetch-site", "none")]));
        assert!(admits("GET", "http://localhost:3000/", &[("host", "localhost:3000")]));
        assert!(admits("POST", "/", &[("host", "localhost"), ("content-length", "9"), ("content-type", "text/csv")]));
    }

    #[test]
    fn what_may_come_from_elsewhere_is_not() {
        let local = ("host", "localhost:3000");
        for headers in [
            vec![],
            vec![("host", "evil.example")],
            vec![("host", "evil.example:3000")],
            vec![("host", "localhost.evil.example")],
            vec![("host", "127.0.0.1.evil.example")],
            vec![("host", "localhost@evil.example")],
            vec![("host", "[::1].evil.example")],
            vec![("host", "calls.example")],
            vec![local, ("x-forwarded", "for=10.0.0.1")],
            vec![local, ("cf-connecting-ip", "10.0.0.1")],
            vec![("host", "192.168.1.7")],
            vec![local, ("host", "evil.example")],
            vec![local, ("origin", "http://evil.example")],
            vec![local, ("origin", "http://localhost:8080")],
            vec![local, ("origin", "null")],
            vec![local, ("origin", "")],
            vec![local, ("sec-fetch-site", "cross-site")],
            vec![local, ("sec-fetch-site", "same-site")],
            vec![local, ("sec-fetch-site", "none")],
            vec![local, ("forwarded", "for=10.0.0.1")],
            vec![local, ("x-forwarded-for", "10.0.0.1")],
            vec![local, ("x-forwarded-proto", "https")],
            vec![local, ("x-real-ip", "10.0.0.1")],
            vec![local, ("via", "1.1 proxy")],
            vec![local, ("content-length", "2")],
            vec![local, ("content-length", "2"), ("content-type", "text/plain")],
            vec![local, ("content-length", "2"), ("content-type", "TEXT/PLAIN;charset=utf-8")],
            vec![local, ("content-length", "2"), ("content-type", "application/x-www-form-urlencoded")],
            vec![local, ("content-length", "2"), ("content-type", "multipart/form-data; boundary=x")],
            vec![local, ("content-length", "2"), ("content-type", "")],
            vec![local, ("content-length", "2"), ("content-type", "json")],
            vec![local, ("content-length", "2"), ("content-type", "application/json"), ("content-type", "text/plain")],
            vec![local, ("transfer-encoding", "chunked")],
        ] {
            assert!(!admits("POST", "/", &headers), "{headers:?}");
        }
        assert!(!admits("GET", "http://evil.example/", &[local]));
    }

    #[test]
    fn names_come_from_the_settings() {
        let settings =
            [("OUTDIAL_SERVER__HOSTS", " one.example , Two.Example"), ("SERVICE_URL", "https://calls.example/x")];
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let server = config::from_parts(None, &settings).expect("settings").server;
        assert_eq!(Keyless::of(&server).names, ["one.example", "two.example", "127.0.0.1"]);
    }
}
