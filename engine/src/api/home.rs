//! An engine for the home that the environment names.

use std::ffi::OsStr;
use std::path::Path;

use super::address::{self, Place};
use super::{Engine, Error, Exit, NodeAddress, Remote};
use crate::config::{Config, ConfigError, Home, HomeError};

impl Engine {
    /// The engine of a node that has an identity: of the home `home`, else of the one that
    /// `PORTWAY_HOME` or the platform's directories name. Configuration comes from its
    /// `portway.toml` and the variables `PORTWAY_SECTION_FIELD`.
    ///
    /// # Errors
    /// `home`: nothing says where the home is. `config`: the configuration has mistakes.
    /// `no-identity`: nobody ran `portway init` or `portway join` there.
    ///
    /// ```no_run
    /// # async fn checkpoint() -> Result<(), portway::api::Error> {
    /// use portway::api::{Engine, TransferOptions};
    ///
    /// let engine = Engine::at_home(None)?;
    /// let target = engine.remote("cloud:runs/7/step-1000")?;
    /// let push = engine.push(vec!["ckpt/step-1000".into()], target, TransferOptions::default());
    /// println!("{} bytes so far", push.progress().bytes_done());
    /// let outcome = push.wait().await?;
    /// println!("published {}", outcome.root);
    /// # Ok(())
    /// # }
    /// ```
    pub fn at_home(home: Option<&Path>) -> Result<Self, Error> {
        let home = Home::locate(home, |name| std::env::var_os(name))?;
        let config = Config::load(&home, std::env::vars_os(), &[]).map_err(|e| Error::from(&e))?;
        let engine = Self::open(home, config)?;
        engine.identity()?;
        Ok(engine)
    }

    /// Reads `NODE:PATH` or `portway://ADDR:PORT/PATH`, with the nodes that this engine knows.
    ///
    /// # Errors
    /// `unknown-node`, or `address` where it is neither.
    pub fn remote(&self, text: impl AsRef<OsStr>) -> Result<Remote, Error> {
        address::remote(text.as_ref(), &self.0.config)
    }

    /// Reads a path of this machine, or one of a node as [`Engine::remote`] does.
    ///
    /// # Errors
    /// As [`Engine::remote`].
    pub fn place(&self, text: impl AsRef<OsStr>) -> Result<Place, Error> {
        address::place(text.as_ref(), &self.0.config)
    }

    /// Reads a node without a path, as [`Engine::remote`] does.
    ///
    /// # Errors
    /// As [`Engine::remote`].
    pub fn node(&self, text: &str) -> Result<NodeAddress, Error> {
        address::node(text, &self.0.config)
    }

    /// Where this engine's configuration, identity and state are.
    pub fn home(&self) -> &Home {
        &self.0.home
    }
}

impl From<HomeError> for Error {
    fn from(error: HomeError) -> Self {
        Self::new("home", Exit::Usage, error.to_string())
            .hint("give --home DIR, or set PORTWAY_HOME")
    }
}

impl From<&ConfigError> for Error {
    fn from(error: &ConfigError) -> Self {
        let hint = match error {
            ConfigError::Read { .. } => "make the file readable for this user",
            ConfigError::Large { .. } | ConfigError::Mistakes { .. } => {
                "portway config --defaults prints every field, what it means and what is allowed"
            }
        };
        Self::new("config", Exit::Usage, error.to_string()).hint(hint)
    }
}
