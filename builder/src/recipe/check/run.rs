//! Checks of what runs in the tree: virtualenvs, steps, tests, the service.

use super::{Look, each, is_mounted};
use crate::recipe::error::Fault;
use crate::recipe::{Argument, File, Git, Requirement, Service, Test, Timeout, Virtualenv};

impl Look<'_> {
    pub(super) fn virtualenvs(&self) -> Result<(), Fault> {
        let all = &self.recipe.virtualenvs;
        let paths = all.iter().map(|virtualenv| &virtualenv.path);
        self.unique("the virtualenv", each("virtualenv", ".path").zip(paths))?;
        for (index, virtualenv) in all.iter().enumerate() {
            self.virtualenv(&format!("virtualenv[{index}]"), virtualenv)?;
        }
        Ok(())
    }

    fn virtualenv(&self, path: &str, virtualenv: &Virtualenv) -> Result<(), Fault> {
        let place = virtualenv.path.as_str();
        if place == "/" || is_mounted(place) {
            return Err(self.fault(
                &format!("{path}.path"),
                format!("`{place}` is not part of an image"),
            ));
        }
        self.owner(&format!("{path}.owner"), &virtualenv.owner)?;
        if virtualenv.wrapper && virtualenv.owner.user.as_str() == "root" {
            return Err(self
                .fault(
                    &format!("{path}.wrapper"),
                    "virtualenvwrapper is for a user's own virtualenvs",
                )
                .hint("name the user under `owner`"));
        }
        let projects = virtualenv.requirements.iter().map(Requirement::project);
        self.unique(
            "the requirement",
            each(&format!("{path}.requirements"), "").zip(projects),
        )?;
        self.list(
            "the file",
            &format!("{path}.requirements-files"),
            &virtualenv.requirements_files,
        )?;
        self.list(
            "the file",
            &format!("{path}.constraints-files"),
            &virtualenv.constraints_files,
        )?;
        self.list("the directory", &format!("{path}.local"), &virtualenv.local)?;
        self.list(
            "the file",
            &format!("{path}.distributions"),
            &virtualenv.distributions,
        )?;
        for (index, Git { tag, commit, .. }) in virtualenv.git.iter().enumerate() {
            let path = format!("{path}.git[{index}]");
            if tag.is_some() == commit.is_some() {
                self.exactly_one(&path, "a Git requirement", &["tag", "commit"])?;
            }
        }
        Ok(())
    }

    pub(super) fn runs(&self) -> Result<(), Fault> {
        // Names of steps are only shown: two may have the same.
        for (index, run) in self.recipe.runs.iter().enumerate() {
            self.user(&format!("run[{index}].user"), &run.user)?;
        }
        Ok(())
    }

    /// Refuses scripts that ask for another program than the one that runs them.
    pub(super) fn scripts(&self) -> Result<(), Fault> {
        let runs = self.recipe.runs.iter().enumerate();
        let runs = runs.map(|(i, run)| (format!("run[{i}].script"), Some(&run.script)));
        let tests = self.recipe.tests.iter().enumerate();
        let tests = tests.map(|(i, test)| (format!("test[{i}].script"), test.script.as_ref()));
        for (path, script) in runs.chain(tests) {
            let first = script.and_then(|script| script.as_str().lines().next());
            let program = first
                .and_then(|line| line.strip_prefix("#!"))
                .map(str::trim);
            let shells = ["/bin/sh", "/usr/bin/sh", "/usr/bin/env sh"];
            let other = program.filter(|line| {
                !shells
                    .iter()
                    .any(|shell| line.split(" -").next() == Some(shell))
            });
            if let Some(other) = other {
                return Err(self
                    .fault(&path, format!("`sh -eu` runs a script, and not `{other}`"))
                    .hint("put it into a [[file]] of mode \"0755\", and run that"));
            }
        }
        Ok(())
    }

    pub(super) fn tests(&self) -> Result<(), Fault> {
        let tests = &self.recipe.tests;
        let names = tests.iter().map(|test| &test.name);
        self.unique("the test", each("test", ".name").zip(names))?;
        for (index, Test { user, command, .. }) in tests.iter().enumerate() {
            let path = format!("test[{index}]");
            self.exactly_one(&path, "[[test]]", &["command", "script"])?;
            self.program(&format!("{path}.command"), command)?;
            self.user(&format!("{path}.user"), user)?;
        }
        Ok(())
    }

    pub(super) fn service(&self) -> Result<(), Fault> {
        let Some(service) = &self.recipe.service else {
            return Ok(());
        };
        self.user("service.user", &service.user)?;
        self.program("service.start", &service.start)?;
        self.program("service.stop", &service.stop)?;
        self.program("service.reload", &service.reload)?;
        self.program("service.before-switch", &service.before_switch)?;
        self.needs(service)?;
        let Some(health) = &service.health else {
            return Ok(());
        };
        self.program("service.health.command", &health.command)?;
        if !health.headers.is_empty() && health.http.is_none() {
            return Err(self.fault(
                "service.health.headers",
                "headers are for `http`, which is not there",
            ));
        }
        self.exactly_one("service.health", "[service.health]", &["http", "command"])
    }

    pub(super) fn processes(&self) -> Result<(), Fault> {
        let all = &self.recipe.processes;
        let names = all.iter().map(|process| &process.name);
        self.unique("the process", each("process", ".name").zip(names))?;
        for (index, process) in all.iter().enumerate() {
            let path = format!("process[{index}]");
            self.beside_a_service(&path)?;
            self.program(&format!("{path}.command"), &process.command)?;
            if let Some(user) = &process.user {
                self.user(&format!("{path}.user"), user)?;
            }
        }
        Ok(())
    }

    pub(super) fn timers(&self) -> Result<(), Fault> {
        let all = &self.recipe.timers;
        let names = all.iter().map(|timer| &timer.name);
        self.unique("the timer", each("timer", ".name").zip(names))?;
        for (index, timer) in all.iter().enumerate() {
            let path = format!("timer[{index}]");
            self.beside_a_service(&path)?;
            self.program(&format!("{path}.command"), &timer.command)?;
            if let Some(user) = &timer.user {
                self.user(&format!("{path}.user"), user)?;
            }
            self.exactly_one(&path, "[[timer]]", &["every", "at"])?;
            let short = |every: &Timeout| every.duration().as_secs() < 60;
            if timer.every.as_ref().is_some_and(short) {
                let path = format!("{path}.every");
                return Err(self.fault(&path, "a minute is the shortest"));
            }
        }
        Ok(())
    }

    fn beside_a_service(&self, path: &str) -> Result<(), Fault> {
        let service = self.recipe.service.as_ref();
        if service.is_some_and(|service| !service.start.is_empty()) {
            return Ok(());
        }
        Err(self
            .fault(path, "this runs beside a service, and there is none")
            .hint("make the main process `start` of [service]"))
    }

    /// What a node is to give fits together, and nothing of the image lies where it hides it.
    fn needs(&self, service: &Service) -> Result<(), Fault> {
        let kinds = [
            ("service.state", &service.state),
            ("service.cache", &service.cache),
            ("service.logs", &service.logs),
        ];
        let all = || {
            let kinds = kinds.iter();
            kinds.flat_map(|(path, list)| each(path, "").zip(*list))
        };
        self.unique("the directory", all())?;
        for (path, directory) in all() {
            let place = directory.as_str();
            if place == "/" || is_mounted(place) || place == "/run" {
                return Err(self.fault(&path, format!("`{place}` is not a node's to give")));
            }
            let inside = |file: &&File| {
                let rest = file.path.as_str().strip_prefix(place);
                rest.is_some_and(|rest| rest.starts_with('/'))
            };
            if let Some(file) = self.recipe.files.iter().find(inside) {
                return Err(self
                    .fault(&path, format!("`{}` would be hidden there", file.path))
                    .hint(format!(
                        "what is in `{place}` is the node's: put the file elsewhere"
                    )));
            }
        }
        self.list("the secret", "service.secrets", &service.secrets)?;
        self.list("the variable", "service.settings", &service.settings)?;
        for (variable, secret) in &service.secret_environment {
            let path = format!("service.secret-environment.{variable}");
            if !service.secrets.contains(secret) {
                return Err(self
                    .fault(&path, format!("no secret is called `{secret}`"))
                    .hint("list it under `secrets`"));
            }
        }
        let given = service.settings.iter().zip(each("service.settings", ""));
        for (variable, path) in given {
            if service.environment.contains_key(variable)
                || service.secret_environment.contains_key(variable)
            {
                let message = format!("`{variable}` has its value in the recipe already");
                return Err(self.fault(&path, message));
            }
        }
        Ok(())
    }

    /// The first of a command's words is a program.
    fn program(&self, path: &str, command: &[Argument]) -> Result<(), Fault> {
        let Some(program) = command.first() else {
            return Ok(());
        };
        let path = format!("{path}[0]");
        if program.as_str().trim().is_empty() {
            return Err(self.fault(&path, "the program of a command is empty"));
        }
        if command.len() == 1 && program.as_str().contains(char::is_whitespace) {
            return Err(self
                .fault(&path, format!("no program is called `{program}`"))
                .hint("write each argument as a string of its own: [\"program\", \"argument\"]"));
        }
        Ok(())
    }
}
