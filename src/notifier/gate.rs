//! Which addresses users may have called: none of this machine, its network, or any other that is not public (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("must be an https:// URL")]
    NotHttps,
    #[error("must have a host, and no user name or password")]
    NoHost,
    #[error("must not point to an internal address")]
    Internal,
}

/// Whether a URL may be called, as far as it tells without being resolved.
///
/// # Errors
/// Why not.
pub fn check(url: &str, allow_internal: bool) -> Result<(), Refused> {
    let url = Url::parse(url).map_err(|_| Refused::NotHttps)?;
    if url.scheme() != "https" && !(allow_internal && url.scheme() == "http") {
        return Err(Refused::NotHttps);
    }
    let host = url.host_str().filter(|_| url.username().is_empty() && url.password().is_none());
    let host = host.ok_or(Refused::NoHost)?;
    if allow_internal {
        return Ok(());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let named_internal = host == "localhost"
        || host.ends_with(".localhost")
        || host.ends_with(".internal")
        || !bare.contains(['.', ':']);
    match bare.parse::<IpAddr>() {
        Ok(address) if !is_public(address) => Err(Refused::Internal),
        Err(_) if named_internal => Err(Refused::Internal),
        _ => Ok(()),
    }
}

/// Resolves names to public addresses only: what a name points to may change after it was registered.
#[derive(Clone, Copy, Debug)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Refused::Internal.into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the public Internet (IANA special-purpose registries).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared address space, protocol assignments, 6to4 relays, benchmarking.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3; within it, tunnels that carry IPv4 addresses, and documentation.
    (a & 0xe000) == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b == 0 || b == 0xdb8)) && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_refused() {
        for url in [
            "https://127.0.0.1/x",
            "https://10.1.2.3",
            "https://172.16.0.1",
            "https://192.168.1.1",
            "https://169.254.169.254/latest",
            "https://0.0.0.0",
            "https://100.64.0.1",
            "https://[::1]/",
            "https://[fd00::1]",
            "https://[fe80::1]",
            "https://[::ffff:10.0.0.1]",
            "https://[2002:a00:1::]",
            "https://[64:ff9b::a00:1]",
            "https://localhost",
            "https://db.internal",
            "https://metadata",
            "https://2130706433",
            "https://0x7f000001",
            "https://255.255.255.255",
            "https://224.0.0.1",
            "https://198.18.0.1",
        ] {
            assert_eq!(check(url, false), Err(Refused::Internal), "{url}");
        }
        for url in ["http://example.com", "ftp://example.com", "nonsense", ""] {
            assert_eq!(check(url, false), Err(Refused::NotHttps), "{url}");
        }
        assert_eq!(check("https://a:b@example.com", false), Err(Refused::NoHost));
        for url in ["https://example.com/hook?x=1", "https://8.8.8.8:8443/", "https://[2606:4700::1]/"] {
            assert_eq!(check(url, false), Ok(()), "{url}");
        }
        assert_eq!(check("http://127.0.0.1:9", true), Ok(()));
    }

    #[tokio::test]
    async fn names_of_internal_addresses_are_not_resolved() {
        let name = "localhost".parse().expect("a name");
        assert!(PublicOnly.resolve(name).await.is_err());
    }
}
