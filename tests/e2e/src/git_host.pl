# A host of private git repositories, each with an MCP server beside it: `git http-backend` behind a small HTTP server.
#
#   /NAME.git  the repository, for any user with the token as password
#   /mcp/NAME  a server of the Model Context Protocol over streamable HTTP with one tool, lookup_NAME, for `Bearer TOKEN`
#
# Repositories are in /srv, and the token of NAME is in /etc/tokens/NAME. Each connection has one request.
use strict;
use warnings;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(decode_base64);

$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 8080, Listen => 64, ReuseAddr => 1)
    or die "cannot listen: $!";
while (1) {
    my $client = $listener->accept or next;
    1 while waitpid(-1, 1) > 0;
    my $child = fork;
    next if !defined $child || $child;
    binmode $client;
    serve($client);
    exit 0;
}

sub serve {
    my ($client) = @_;
    my ($method, $target) = (<$client> // '') =~ m{^([A-Z]+) (\S+) } or return;
    my %headers;
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?\n$/;
        $headers{lc $1} = $2 if $line =~ /^([^:]+):\s*(.*?)\r?\n$/;
    }
    print {$client} "HTTP/1.1 100 Continue\r\n\r\n" if ($headers{expect} // '') =~ /100-continue/i;
    my $body = body($client, \%headers);
    my ($path, $query) = split /\?/, $target, 2;
    my ($status, $more, $answer) = route($method, $path, $query // '', \%headers, $body);
    print "$method $path $status\n";
    my $length = length $answer;
    print {$client} "HTTP/1.1 $status\r\nConnection: close\r\nContent-Length: $length\r\n$more\r\n$answer";
}

sub body {
    my ($client, $headers) = @_;
    my $body = '';
    if (($headers->{'transfer-encoding'} // '') =~ /chunked/i) {
        while ((<$client> // '') =~ /^([0-9a-fA-F]+)/ && hex $1) {
            read $client, $body, hex $1, length $body;
            <$client>;
        }
        <$client>;
    } else {
        read $client, $body, $headers->{'content-length'} // 0;
    }
    return $body;
}

sub route {
    my ($method, $path, $query, $headers, $body) = @_;
    my ($shown) = ($headers->{authorization} // '') =~ /^Bearer (\S+)$/;
    if ($path =~ m{^/mcp/(\w+)$}) {
        return ('401 Unauthorized', "WWW-Authenticate: Bearer\r\n", '') if !knows($1, $shown);
        return ('405 Method Not Allowed', '', '') if $method ne 'POST';
        return mcp($1, decode_json($body));
    }
    return ('404 Not Found', '', '') if $path !~ m{^/(\w+)\.git/};
    my $name = $1;
    (undef, $shown) = split /:/, decode_base64($1), 2 if ($headers->{authorization} // '') =~ /^Basic (\S+)$/;
    return ('401 Unauthorized', "WWW-Authenticate: Basic realm=\"git\"\r\n", '') if !knows($name, $shown);
    return git($method, $path, $query, $headers, $body);
}

sub knows {
    my ($name, $shown) = @_;
    open my $file, '<', "/etc/tokens/$name" or return 0;
    return defined $shown && $shown eq (<$file> // '');
}

sub git {
    my ($method, $path, $query, $headers, $body) = @_;
    my $held = "/srv/.request-$$";
    open my $input, '+>:raw', $held or die "cannot keep a request: $!";
    unlink $held;
    print {$input} $body;
    $input->flush;
    seek $input, 0, 0;
    my %env = (
        GIT_PROJECT_ROOT => '/srv', GIT_HTTP_EXPORT_ALL => 1, REMOTE_USER => 'agent', PATH_INFO => $path,
        QUERY_STRING => $query, REQUEST_METHOD => $method, CONTENT_LENGTH => length $body,
        CONTENT_TYPE => $headers->{'content-type'} // '', GIT_PROTOCOL => $headers->{'git-protocol'} // '',
        HTTP_CONTENT_ENCODING => $headers->{'content-encoding'} // '',
    );
    @ENV{keys %env} = values %env;
    my $git = open(my $output, '-|') // die "cannot fork: $!";
    if (!$git) {
        open STDIN, '<&', $input or die "cannot pass the request on: $!";
        exec 'git', 'http-backend';
    }
    binmode $output;
    my $answer = do { local $/; <$output> };
    my ($head, $content) = split /\r\n\r\n/, $answer, 2;
    my ($status) = $head =~ /^Status: (.*?)\r?$/m;
    return ($status // '200 OK', "$head\r\n", $content // '');
}

sub mcp {
    my ($name, $asked) = @_;
    return ('202 Accepted', '', '') if !exists $asked->{id};
    my %results = (
        'initialize' => {
            protocolVersion => $asked->{params}{protocolVersion}, capabilities => {tools => {}},
            serverInfo => {name => 'lookup', version => '1'},
        },
        'tools/list' => {tools => [{
            name => "lookup_$name", description => 'Looks something up.',
            inputSchema => {type => 'object', properties => {}},
        }]},
        'tools/call' => {content => [{type => 'text', text => "found by $name"}]},
    );
    my $answer = {jsonrpc => '2.0', id => $asked->{id}, result => $results{$asked->{method}} // {}};
    return ('200 OK', "Content-Type: application/json\r\n", encode_json($answer));
}
