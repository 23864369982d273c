package kafkatest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// kafkaVersion is the broker that tests run against.
const kafkaVersion = "4.1.0"

// installPatience bounds the first download of the jars, in a new cache directory.
const installPatience = 5 * time.Minute

// errMissing says that the machine lacks what a real broker needs. Tests skip on it, unless EBB_REQUIRE_KAFKA=1.
var errMissing = errors.New("no real Kafka broker on this machine")

// installation is what the cache directory holds: everything a broker is started from, made once and shared by all test binaries.
//
//	<root>/lib/*.jar        the broker's jars
//	<root>/template/        a formatted, cleanly stopped data directory with both internal topics, copied for each broker
//	<root>/cluster/1..3/    formatted data directories of a cluster's nodes
//	<root>/classes-*.jsa    class-data archive of one Java version; the JVM ignores it where it does not fit
//	<root>/run/*/           the directories of running brokers
type installation struct {
	root      string
	java      string
	classpath string
	archive   string
}

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>ebb</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency></dependencies></project>
`

// install returns the installation, and makes what is missing of it. A file lock lets one test binary do so at a time.
func install() (*installation, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("%w: no java on PATH (Java 17 or newer is needed)", errMissing)
	}
	version, err := exec.Command(java, "-version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: java -version: %w", errMissing, err)
	}
	root, err := cacheRoot()
	if err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(root, "lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("kafkatest: lock %s: %w", root, err)
	}
	defer unlock()

	in := &installation{root: root, java: java}
	if err := in.fetchJars(); err != nil {
		return nil, err
	}
	jars, err := filepath.Glob(filepath.Join(root, "lib", "*.jar"))
	if err != nil {
		return nil, err
	}
	sort.Strings(jars)
	in.classpath = strings.Join(jars, string(os.PathListSeparator)) // spelt out: a class archive does not work with lib/*
	sum := sha256.Sum256(append(version, in.classpath...))
	in.archive = filepath.Join(root, "classes-"+hex.EncodeToString(sum[:4])+".jsa")
	if !exists(in.archive) || !exists(filepath.Join(root, "template", "server.crt")) {
		if err := in.makeTemplate(); err != nil {
			return nil, fmt.Errorf("kafkatest: prepare the broker: %w", err)
		}
	}
	in.sweep()
	return in, nil
}

func cacheRoot() (string, error) {
	dir := os.Getenv("EBB_KAFKA_DIR")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("%w: %w; set EBB_KAFKA_DIR", errMissing, err)
		}
		dir = filepath.Join(base, "ebb-kafka")
	}
	root := filepath.Join(dir, kafkaVersion)
	return root, os.MkdirAll(filepath.Join(root, "run"), 0o755)
}

func (in *installation) fetchJars() error {
	lib := filepath.Join(in.root, "lib")
	if exists(lib) {
		return nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: no mvn on PATH (Maven fetches the broker's jars once)", errMissing)
	}
	tmp, err := os.MkdirTemp(in.root, "lib-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), []byte(pom), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: mvn dependency:copy-dependencies: %w\n%s", errMissing, err, tail(out))
	}
	return os.Rename(filepath.Join(tmp, "jars"), lib)
}

// makeTemplate formats a data directory, runs a broker on it until both of its coordinators answer, and stops it cleanly. The archive of
// loaded classes is written at its exit.
func (in *installation) makeTemplate() error {
	tmp, err := os.MkdirTemp(in.root, "template-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := in.format(tmp, nil); err != nil {
		return err
	}
	p := &process{in: in, dir: tmp, jvm: []string{"-XX:ArchiveClassesAtExit=" + in.archive}}
	if err := p.start(); err != nil {
		return err
	}
	if err := p.terminate(); err != nil {
		return err
	}
	dest := filepath.Join(in.root, "template")
	if err := os.RemoveAll(dest); err != nil {
		return err
	}
	return os.Rename(tmp, dest)
}

// format writes configuration, certificates and an empty data directory, with a cluster id of its own, into dir.
func (in *installation) format(dir string, extra map[string]string) error {
	if err := writeCertificates(dir); err != nil {
		return err
	}
	p, err := pickPorts()
	if err != nil {
		return err
	}
	if err := writeProperties(dir, p, extra); err != nil {
		return err
	}
	id, err := in.tool(dir, "random-uuid")
	if err != nil {
		return err
	}
	args := []string{"format", "-t", lastLine(id), "-c", filepath.Join(dir, "server.properties")}
	for _, u := range scramUsers() {
		args = append(args, "--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", u.Username, u.Password))
	}
	_, err = in.tool(dir, args...)
	return err
}

func (in *installation) tool(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command(in.java, append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", in.classpath, "kafka.tools.StorageTool"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("StorageTool %s: %w\n%s%s", args[0], err, tail(out), tail(stderr.Bytes()))
	}
	return out, nil
}

// sweep removes the directories of brokers whose test binary is gone: a directory's lock is held as long as its owner lives.
func (in *installation) sweep() {
	dirs, _ := filepath.Glob(filepath.Join(in.root, "run", "*"))
	for _, dir := range dirs {
		unlock, err := lockFile(filepath.Join(dir, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		unlock()
	}
}

// runDir makes the locked directory of one broker from the template.
func (in *installation) runDir() (dir string, release func(), err error) {
	return in.runDirFrom(filepath.Join(in.root, "template"))
}

func (in *installation) runDirFrom(template string) (dir string, release func(), err error) {
	dir, err = os.MkdirTemp(filepath.Join(in.root, "run"), "broker-")
	if err != nil {
		return "", nil, err
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"), syscall.LOCK_EX)
	if err != nil {
		return "", nil, err
	}
	if err := copyTree(template, dir); err != nil {
		unlock()
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir); unlock() }, nil
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dest, 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, b, 0o644)
	})
}

// lockFile takes an flock, which the kernel gives back when the process ends.
func lockFile(path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func tail(b []byte) []byte {
	const keep = 2000
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return b
}
