package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"ebb/detectors"
)

// Source is where a configuration and what it refers to come from. The zero value is the operating system.
type Source struct {
	Env      func(name string) (string, bool)  // nil: os.LookupEnv
	ReadFile func(name string) ([]byte, error) // nil: os.ReadFile
}

func (s Source) withDefaults() Source {
	if s.Env == nil {
		s.Env = os.LookupEnv
	}
	if s.ReadFile == nil {
		s.ReadFile = os.ReadFile
	}
	return s
}

// Load reads and checks the configuration file. Everything that is wrong comes back at once, as Faults. A configuration
// without faults is complete: references and secret files are read, defaults and derived names are filled in.
func Load(path string, src Source) (*Config, error) {
	src = src.withDefaults()
	r := &reader{
		file:    path,
		env:     src.Env,
		at:      map[string]*token.Position{},
		keys:    map[string]*token.Position{},
		anchors: map[string]ast.Node{},
		tree:    describeConfig(docs()),
	}
	c := Default()
	b, err := src.ReadFile(path)
	if err != nil {
		what, mend := readFault(err)
		r.fault(nil, "", what, mend)
		return nil, r.faults
	}
	root := r.parse(b)
	if root == nil && len(r.faults) > 0 {
		return nil, r.faults.sorted()
	}
	if root != nil && !isMapping(r.plain(root, "")) {
		r.fault(root.GetToken().Position, "", "is "+kindOf(root)+", but must be a mapping", "begin with group: NAME")
		return nil, r.faults
	}
	r.decode(root, reflect.ValueOf(&c).Elem(), "")
	c.derive()
	r.check(&c, src)
	if len(r.faults) > 0 {
		return nil, r.faults.sorted()
	}
	c.file, c.hash = path, hash(&c)
	return &c, nil
}

func readFault(err error) (what, mend string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist", "name the configuration file with -c FILE"
	case errors.Is(err, fs.ErrPermission):
		return "cannot be read: permission denied", "let the user that runs ebb read it"
	}
	return "cannot be read: " + err.Error(), "name a readable file"
}

// derive fills in what follows from other keys.
func (c *Config) derive() {
	if c.Topics.Changelog == "" {
		c.Topics.Changelog = c.Group + "-changelog"
	}
	if c.Topics.Facts == "" {
		c.Topics.Facts = c.Group + "-facts"
	}
	if c.Topics.DeadLetters == "" {
		c.Topics.DeadLetters = c.Group + "-dlq"
	}
	c.Detectors.Horizon, c.Detectors.LapseAfter = detectors.Duration(c.Alerts.Horizon), detectors.Duration(c.Alerts.LapseAfter)
	c.Detectors.KeptDays, c.Detectors.Tiers = c.State.KeptDays, c.Tiers
}

// resolve takes a relative path from the folder of the configuration file.
func (r *reader) resolve(f *File) {
	if *f != "" && !filepath.IsAbs(string(*f)) {
		*f = File(filepath.Join(filepath.Dir(r.file), string(*f)))
	}
}

// secret reads the file of a secret that stands in one.
func (r *reader) secret(value *Secret, file *File, valuePath, filePath string, src Source) {
	if *file == "" {
		return
	}
	r.resolve(file)
	if *value != "" {
		r.faultAt(filePath, "stands beside "+valuePath, "keep one of them")
		return
	}
	b, err := src.ReadFile(string(*file))
	if err != nil {
		r.faultAt(filePath, fmt.Sprintf("%s cannot be read: %s", *file, reason(err)), "name a file that the user who runs ebb may read")
		return
	}
	*value = Secret(strings.TrimRight(string(b), "\r\n"))
	if *value == "" {
		r.faultAt(filePath, fmt.Sprintf("%s is empty", *file), "write the secret into it")
	}
}

// reason is an I/O error without the path, which the message names already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
