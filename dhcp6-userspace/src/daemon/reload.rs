//! Another configuration for a running server: all of it or none of it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tracing::{error, info};

use super::{
    Daemon, OPERATORS_PATIENCE, kernel::Kernel, listeners::Listener, presence::by_link, say_what_waits,
    service, taking_up::take_up, vlan_offload, warn_of_small_neighbor_table,
};
use crate::{
    config::Config,
    control::{ReloadStatus, Reloaded},
};

impl Daemon {
    /// Reads the configuration again and goes on with it. Leases stay as they are; what the new configuration takes
    /// from a client ends with its next Renew or Rebind.
    ///
    /// # Errors
    ///
    /// Why the configuration stays what it was, which is logged, too.
    pub(super) fn reload(&mut self) -> Result<Reloaded, String> {
        service::say_reloading();
        let outcome = self.try_reload().map_err(|failure| format!("{failure:#}"));
        match &outcome {
            Ok(()) => info!("the configuration was read again: {} links", self.config.links.len()),
            Err(error) => error!("the configuration stays what it was:\n{error}"),
        }
        service::say_ready();
        let error = outcome.err();
        let at = self.clock.now().to_string();
        self.last_reload = Some(ReloadStatus { at: at.clone(), ok: error.is_none(), error: error.clone() });
        error.map_or(Ok(Reloaded { reloaded: at, links: self.config.links.len() }), Err)
    }

    fn try_reload(&mut self) -> Result<()> {
        let config = Config::load(&self.path)?;
        self.check_what_stays(&config)?;
        let presence = self.presence.of(&config, Duration::ZERO)?;
        let interfaces = by_link(&config, &presence);
        vlan_offload::check(&config, &interfaces)?;
        let listeners = Listener::plan(&config, &interfaces, &self.sockets)?;
        // What the store holds is all that was promised, once nothing waits to be written.
        if !self.settle(Some(OPERATORS_PATIENCE)) {
            bail!("the lease store does not take changes; see `dhcp6ctl status`");
        }
        let store = self.committer.store().context("a commit is under way")?;
        let engine = take_up(&config, *self.engine.server_duid(), store, self.clock.now())?;
        let kernel = Kernel::start(&config, &engine, self.clock, &interfaces).context("no fast path")?;
        // From here on nothing fails. The kernel's promises of before are in the store as well.
        self.replace_kernel(kernel);
        self.engine = engine;
        self.replace_sockets(|before| Listener::carry_out(listeners, before));
        self.presence.replace(presence);
        self.config = config;
        self.sockets.iter().for_each(Listener::announce);
        say_what_waits(&self.engine);
        warn_of_small_neighbor_table(&self.engine, &self.sockets);
        Ok(())
    }

    /// Refuses what only a restart can change.
    fn check_what_stays(&self, config: &Config) -> Result<()> {
        let (new, old) = (config, &self.config);
        let both_on = new.fast_path.enabled && old.fast_path.enabled;
        let fixed = [
            ("[server] state_dir", new.server.state_dir == old.server.state_dir),
            ("[server] duid", new.server.duid == old.server.duid),
            ("[server] port", new.server.port == old.server.port),
            ("[store] kind", new.store == old.store),
            ("[control] socket", new.control_socket == old.control_socket),
            ("[metrics] listen", new.metrics == old.metrics),
            ("[fast_path] pin_dir", new.fast_path.pin_dir == old.fast_path.pin_dir),
            // The program leaves an interface only with what this process holds of it.
            ("[fast_path] mode", !both_on || new.fast_path.mode == old.fast_path.mode),
        ];
        let changed: Vec<_> = fixed.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect();
        if !changed.is_empty() {
            bail!("{} cannot be changed while the server runs: restart it", changed.join(", "));
        }
        Ok(())
    }
}
