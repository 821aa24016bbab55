//! What may be listened on: addresses that others than this host reach only with what keeps strangers out.

use std::net::SocketAddr;

use super::config::ServerConfig;

/// An address that others reach, and nothing that keeps strangers out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{setting} is {address}, which others than this host reach, and there is no TLS: anybody there could read and append; give tls.cert \
     and tls.key (--tls-cert, --tls-key), listen on 127.0.0.1, or say insecure = true (--insecure) if the network itself keeps strangers out"
)]
pub struct Unprotected {
    /// The setting: `listen` or `http`.
    pub setting: &'static str,
    /// Its value.
    pub address: SocketAddr,
}

/// What keeps strangers out, of what is configured.
fn is_protected(config: &ServerConfig) -> bool {
    config.tls.is_some()
}

/// Refuses addresses that others reach where nothing keeps strangers out; with `insecure` it warns.
///
/// # Errors
/// [`Unprotected`] names the first such address.
pub(super) fn check(config: &ServerConfig) -> Result<(), Unprotected> {
    if is_protected(config) {
        return Ok(());
    }
    let addresses = [("listen", Some(config.listen)), ("http", config.http)];
    for (setting, address) in addresses.into_iter().filter_map(|(setting, address)| Some((setting, address?))) {
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        if !config.insecure {
            return Err(Unprotected { setting, address });
        }
        tracing::warn!(%address, setting, "listening without TLS where others than this host reach it: anybody there can read and append");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::TlsConfig;

    fn refused(listen: &str, http: Option<&str>, has_tls: bool, insecure: bool) -> Option<&'static str> {
        let address = |text: &str| text.parse().expect("an address");
        let tls = has_tls.then(|| TlsConfig { cert: "c".into(), key: "k".into(), client_ca: None });
        let config = ServerConfig { listen: address(listen), http: http.map(address), tls, insecure, ..Default::default() };
        check(&config).err().map(|unprotected| unprotected.setting)
    }

    #[test]
    fn only_loopback_is_listened_on_without_tls_unless_it_is_said() {
        for own in ["127.0.0.1:0", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(refused(own, Some(own), false, false), None, "{own}");
        }
        for public in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(refused(public, None, false, false), Some("listen"), "{public}");
            assert_eq!(refused("127.0.0.1:1", Some(public), false, false), Some("http"), "{public}");
            assert_eq!(refused(public, Some(public), true, false), None, "{public}");
            assert_eq!(refused(public, Some(public), false, true), None, "{public}");
        }
    }
}
