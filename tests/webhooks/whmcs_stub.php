<?php
// Stands where WHMCS is, for the hook file: add_hook(), logActivity() and as much of Capsule as it uses, over SQLite.
// php whmcs_stub.php DATABASE HOOK_FILE < [{"sql": "…"} | {"hook": "AfterModuleCreate", "vars": {…}}, …]
// Prints what went to the activity log, a line each.

namespace WHMCS\Database {
    final class Capsule
    {
        public static $pdo;

        public static function table($name) { return new Query($name); }

        public static function schema() { return new Schema(); }
    }

    final class Schema
    {
        public function hasTable($name)
        {
            $found = Capsule::$pdo->prepare("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?");
            $found->execute([$name]);
            return (int) $found->fetchColumn() > 0;
        }

        public function create($name, $describe)
        {
            $table = new Blueprint();
            $describe($table);
            Capsule::$pdo->exec("CREATE TABLE $name (" . implode(', ', $table->columns) . ')');
        }
    }

    final class Blueprint
    {
        public $columns = [];

        public function increments($name) { $this->columns[] = "$name INTEGER PRIMARY KEY AUTOINCREMENT"; }

        public function string($name, $length) { $this->columns[] = "$name VARCHAR($length) NOT NULL"; }

        public function text($name) { $this->columns[] = "$name TEXT NOT NULL"; }

        public function integer($name) { $this->columns[] = "$name INTEGER NOT NULL"; }

        public function index($name) {}
    }

    final class Query
    {
        private $table;
        private $wheres = [];
        private $values = [];
        private $tail = '';

        public function __construct($table) { $this->table = $table; }

        public function where($column, $operator, $value = null)
        {
            if (func_num_args() === 2) {
                list($operator, $value) = ['=', $operator];
            }
            $this->wheres[] = "$column $operator ?";
            $this->values[] = $value;
            return $this;
        }

        public function orderBy($column) { $this->tail .= " ORDER BY $column"; return $this; }

        public function limit($number) { $this->tail .= ' LIMIT ' . (int) $number; return $this; }

        public function get() { return $this->run('SELECT * FROM ' . $this->table)->fetchAll(\PDO::FETCH_OBJ); }

        public function value($column)
        {
            $found = $this->limit(1)->run("SELECT $column FROM " . $this->table)->fetchColumn();
            return $found === false ? null : $found;
        }

        public function max($column) { return $this->run("SELECT max($column) FROM " . $this->table)->fetchColumn(); }

        public function insert($row)
        {
            $marks = implode(', ', array_fill(0, count($row), '?'));
            $sql = "INSERT INTO $this->table (" . implode(', ', array_keys($row)) . ") VALUES ($marks)";
            return Capsule::$pdo->prepare($sql)->execute(array_values($row));
        }

        public function update($row)
        {
            $set = implode(', ', array_map(function ($name) { return "$name = ?"; }, array_keys($row)));
            return $this->run("UPDATE $this->table SET $set", array_values($row))->rowCount();
        }

        public function delete() { return $this->run('DELETE FROM ' . $this->table)->rowCount(); }

        private function run($sql, $before = [])
        {
            if ($this->wheres) {
                $sql .= ' WHERE ' . implode(' AND ', $this->wheres);
            }
            $statement = Capsule::$pdo->prepare($sql . $this->tail);
            $statement->execute(array_merge($before, $this->values));
            return $statement;
        }
    }
}

namespace {
    error_reporting(E_ALL);
    set_error_handler(function ($number, $message, $file, $line) {
        if (!(error_reporting() & $number)) {
            return false;  // silenced with @
        }
        throw new ErrorException($message, 0, $number, $file, $line);
    });
    define('WHMCS', true);
    $hooks = [];

    function add_hook($name, $priority, $function)
    {
        global $hooks;
        $hooks[$name][] = $function;
    }

    function logActivity($message) { echo $message, "\n"; }

    \WHMCS\Database\Capsule::$pdo = new PDO('sqlite:' . $argv[1]);
    \WHMCS\Database\Capsule::$pdo->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
    require $argv[2];
    foreach (json_decode(file_get_contents('php://stdin'), true) as $act) {
        if (isset($act['sql'])) {
            \WHMCS\Database\Capsule::$pdo->exec($act['sql']);
            continue;
        }
        if (!isset($hooks[$act['hook']])) {
            throw new RuntimeException('nobody listens to ' . $act['hook']);
        }
        foreach ($hooks[$act['hook']] as $function) {
            $function($act['vars']);
        }
    }
}
